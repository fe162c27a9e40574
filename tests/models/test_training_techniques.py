"""Training with torch's tools gives the same gradients as timm's EdgeNeXt with the same weights."""

import pytest
import torch
import torch.nn.functional as F
from golden import draw_like, make_input
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.key_maps import rename

LABELS = torch.tensor([3, 1])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = EdgeNeXt('xxsmall', final_norm='auto')
        self.head = nn.ModuleDict(dict(fc=nn.Linear(168, 10)))

    def forward(self, x):
        return self.head.fc(self.backbone(x)[0])


class Pair:
    """Our classifier and timm's, with the same weights, in training mode."""

    def __init__(self, timm_edgenext, dtype=torch.float64, drawn=True):
        self.ours = Classifier()
        if drawn:
            self.ours.load_state_dict(draw_like(self.ours.state_dict()))
        else:
            self.ours.backbone.init_weights()
        self.theirs = timm_edgenext.edgenext_xx_small(num_classes=10)
        weights = self.ours.state_dict()
        self.theirs.load_state_dict(rename(weights, 'ours', 'timm'))
        self.modules = {
            ours.rpartition('.')[0]: theirs.rpartition('.')[0]
            for ours, theirs in zip(weights, rename(weights, 'ours', 'timm'), strict=True)
        }
        self.ours.train().to(dtype)
        self.theirs.train().to(dtype)

    def layers(self):
        """The convolutions and linear layers of both models, seeded alike for random methods."""
        for ours, theirs in self.modules.items():
            if isinstance(self.ours.get_submodule(ours), (nn.Conv2d, nn.Linear)):
                for model, path in ((self.ours, ours), (self.theirs, theirs)):
                    torch.manual_seed(0)
                    yield model.get_submodule(path)

    def train(self, make_loss, steps=2):
        """Takes steps of SGD with both models and compares losses, gradients and parameters."""
        for _ in range(steps):
            for model in (self.ours, self.theirs):
                model.zero_grad()
            losses = [make_loss(self.ours), make_loss(self.theirs)]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
            for loss in losses:
                loss.backward()
            theirs = dict(self.theirs.named_parameters())
            ours = dict(self.ours.named_parameters())
            assert len(ours) == len(theirs) > 150
            for name, parameter in ours.items():
                module = max((m for m in self.modules if name.startswith(f'{m}.')), key=len)
                other = theirs[self.modules[module] + name.removeprefix(module)]
                scale = other.grad.abs().max().item()
                torch.testing.assert_close(
                    parameter.grad, other.grad, rtol=1e-7, atol=1e-9 * scale, msg=name
                )
            with torch.no_grad():
                for parameter in (*ours.values(), *theirs.values()):
                    parameter -= 1e-3 * parameter.grad / parameter.grad.norm().clamp(min=1e-12)


@pytest.fixture
def pair(timm_edgenext):
    return Pair(timm_edgenext)


def cross_entropy(model):
    return F.cross_entropy(model(make_input(2, 64, 96).double()), LABELS)


def gradient_penalty(model):
    x = make_input(2, 64, 64).double().requires_grad_()
    loss = F.cross_entropy(model(x), LABELS)
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    return grad.square().sum()


@pytest.mark.parametrize(
    'wrap',
    [
        weight_norm,
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, 'weight', amount=0.5),
        lambda layer: prune.random_unstructured(layer, 'weight', amount=0.5),
        lambda layer: prune.ln_structured(layer, 'weight', amount=0.25, n=2, dim=0),
    ],
    ids=['weight', 'spectral', 'new_weight', 'new_spectral', 'l1', 'random', 'structured'],
)
@pytest.mark.filterwarnings('ignore')
def test_wrapped_layers_train(pair, wrap):
    for layer in pair.layers():
        # timm reads this weight three times in a forward pass, and each time is an iteration.
        is_position = isinstance(layer, nn.Conv2d) and layer.in_channels == 64
        if not (is_position and wrap is parametrizations.spectral_norm):
            wrap(layer)
    pair.train(cross_entropy)


def test_forward_and_backward_hooks_of_all_layers_are_used(pair):
    calls = []

    def halve(layer, inputs, outputs):
        return tuple(grad if grad is None else grad / 2 for grad in inputs)

    for layer in pair.layers():
        layer.register_forward_pre_hook(lambda layer, x: (2 * x[0],))
        layer.register_forward_hook(lambda layer, x, y: calls.append(layer) or y.tanh())
        layer.register_full_backward_hook(halve)
    pair.train(cross_entropy, steps=1)
    assert len(calls) == len(set(calls)) == len(list(pair.layers()))


def test_double_backward(pair):
    pair.train(gradient_penalty, steps=1)


def test_the_loss_of_25_steps_of_adamw_is_timms(timm_edgenext):
    torch.manual_seed(0)
    pair = Pair(timm_edgenext, torch.float32, drawn=False)
    x, y = make_input(2, 64, 64), torch.arange(2)
    losses = []
    for model in (pair.ours, pair.theirs):
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.05)
        losses.append([])
        for _ in range(25):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
