"""The backbone against numbers that do not come from it: the paper, the authors' code and timm."""

import pytest
import torch
from golden import VARIANTS, draw_like, golden_outputs, make_input, official_state_dict
from torch import nn

from benchmarks.models import TIMM_NAMES
from edgenext_mm import EdgeNeXt
from edgenext_mm.models import ARCHS

PARAMETERS = {
    'xxsmall': 1_327_216,
    'xsmall': 2_336_804,
    'small': 5_586_832,
    'base': 18_511_292,
    'xxsmall_bnhs': 1_326_184,
    'xsmall_bnhs': 2_335_008,
    'small_bnhs': 5_584_000,
    'small_rw': 7_826_512,
}


class Classifier(nn.Module):
    """The authors' classifier, under their names."""

    def __init__(self, arch):
        super().__init__()
        self.backbone = EdgeNeXt(arch, final_norm='auto')
        self.head = nn.Linear(ARCHS[arch].dims[-1], 1000)

    def official(self):
        return {k.removeprefix('backbone.'): v for k, v in self.state_dict().items()}

    def forward(self, x):
        return self.head(self.backbone(x)[0])


def ours(arch, weights):
    """Classifier and maps of all stages with official weights, each loaded strictly."""
    classifier, backbone = Classifier(arch).eval(), EdgeNeXt(arch, out_indices=range(4)).eval()
    named = {k if k.startswith('head.') else f'backbone.{k}': v for k, v in weights.items()}
    classifier.load_state_dict(named)
    behind = ('head.weight', 'head.bias', *(k for k in weights if k.startswith('norm.')))
    backbone.load_state_dict({k: v for k, v in weights.items() if k not in behind})
    return classifier, backbone


def assert_near(actual, expected, relative=1e-4):
    atol = relative * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize('arch', ARCHS)
def test_the_number_of_parameters_is_as_published(arch):
    assert sum(p.numel() for p in Classifier(arch).parameters()) == PARAMETERS[arch]


@pytest.mark.parametrize('variant', VARIANTS)
def test_names_and_shapes_agree_with_the_original_code(variant):
    shapes = {name: value.shape for name, value in Classifier(VARIANTS[variant]).official().items()}
    assert shapes == {name: value.shape for name, value in official_state_dict(variant).items()}


@pytest.mark.parametrize('variant', VARIANTS)
@torch.no_grad()
def test_outputs_agree_with_the_original_code(variant):
    classifier, backbone = ours(VARIANTS[variant], official_state_dict(variant))
    for size, expected in golden_outputs(variant).items():
        x = make_input(*size)
        assert_near(classifier(x), expected['logits'])
        for i, y in enumerate(backbone(x)):
            assert list(y.shape) == expected[f'stage{i}_shape'].tolist()
            assert_near(y.mean((2, 3)), expected[f'stage{i}_mean'])
            assert_near(y[:, :4, :4, :4], expected[f'stage{i}_corner'])


@pytest.mark.parametrize('arch', TIMM_NAMES)
@torch.no_grad()
def test_outputs_agree_with_timm(arch, timm_edgenext):
    weights = draw_like(Classifier(arch).official())
    classifier, backbone = ours(arch, weights)
    reference = getattr(timm_edgenext, TIMM_NAMES[arch])().eval()
    reference.load_state_dict(timm_edgenext.checkpoint_filter_fn(weights, reference))
    # Only small_rw rounds odd sizes up.
    for size in ((1, 160, 224), (2, 101, 67) if arch == 'small_rw' else (2, 96, 64)):
        x = make_input(*size)
        _, stages = reference.forward_intermediates(x)
        assert_near(classifier(x), reference(x), relative=1e-5)
        for actual, expected in zip(backbone(x), stages, strict=True):
            assert_near(actual, expected, relative=1e-5)


@torch.no_grad()
def test_a_dilated_small_rw_has_the_values_of_the_original_between_others():
    """Without attention, every second value of a dilated stage is one of the original stage."""
    arch = dict(base='small_rw', num_sdta=0, depths=(1, 1, 2, 1))
    original, dilated = (EdgeNeXt(arch, output_stride=s).eval() for s in (32, 16))
    weights = draw_like(original.state_dict())
    original.load_state_dict(weights)
    dilated.load_state_dict(weights)
    x = make_input(1, 160, 224)
    assert dilated(x)[0].shape[2:] == (10, 14)
    assert_near(dilated(x)[0][:, :, ::2, ::2], original(x)[0], relative=1e-5)
