"""Gradients by hand are those of PyTorch's operators, and stand aside where they do not apply."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.models.layers import ConvEncoder, SDTAEncoder, cpu_gradients
from edgenext_mm.models.layers.cpu_gradients import DepthwiseConv2d


@pytest.fixture
def used(monkeypatch):
    """Names of the functions that were called."""
    names = []
    for function in (cpu_gradients._ScaledMlp, cpu_gradients._DepthwiseConv):

        def apply(*args, _apply=function.apply, _name=function.__name__):
            names.append(_name)
            return _apply(*args)

        monkeypatch.setattr(function, 'apply', apply)
    return names


@pytest.fixture(params=['Intel', 'other'])
def processor(request, monkeypatch):
    """The order of operators for processors of one make."""
    monkeypatch.setattr(cpu_gradients, '_ON_INTEL', request.param == 'Intel')


@pytest.fixture
def by_operators(monkeypatch):
    """Results and gradients of a module by PyTorch's operators alone."""

    def run(module, x):
        with monkeypatch.context() as patch:
            patch.setattr(cpu_gradients, 'pays', lambda x: False)
            patch.setattr('edgenext_mm.models.layers.encoders.pays', lambda x: False)
            return run_with_gradients(module, x)

    return run


def run_with_gradients(module, x):
    x = x.clone().requires_grad_()
    module.zero_grad()
    torch.manual_seed(1)
    y = module(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return dict(y=y.detach(), x=x.grad, **{n: p.grad for n, p in module.named_parameters()})


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert actual[name] is None
            continue
        atol = 1e-5 * value.abs().max().item()
        torch.testing.assert_close(actual[name], value, rtol=0, atol=atol, msg=name)


@pytest.mark.usefixtures('processor')
@pytest.mark.parametrize('channels_last', [True, False])
@pytest.mark.parametrize('arguments', [{}, dict(drop_path=0.5), dict(layer_scale_init_value=0)])
@pytest.mark.parametrize('kind', ['conv', 'sdta'])
def test_gradients_of_encoders(kind, arguments, channels_last, used, by_operators):
    torch.manual_seed(0)
    arguments = {'layer_scale_init_value': 0.3, **arguments}
    if kind == 'conv':
        encoder = ConvEncoder(8, 7, **arguments)
    else:
        encoder = SDTAEncoder(8, 2, 3, pos_encoding=True, **arguments)
    nn.init.normal_(encoder.norm.weight)
    nn.init.normal_(encoder.norm.bias)
    x = torch.randn(4, 8, 9, 6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    actual = run_with_gradients(encoder, x)
    assert used == (['_DepthwiseConv', '_ScaledMlp'] if kind == 'conv' else ['_ScaledMlp'])
    for name in ('pwconv1.weight', 'pwconv2.weight'):
        assert actual[name].is_contiguous(), name
    assert_same(actual, by_operators(encoder, x))


@pytest.mark.parametrize('size', [(24, 16), (3, 5), (1, 1)])
@pytest.mark.parametrize('kernel_size', [5, 9])
@pytest.mark.parametrize('dilation', [1, 2])
@pytest.mark.parametrize('bias', [True, False])
def test_gradients_of_depthwise_kernels(size, kernel_size, dilation, bias, used, by_operators):
    conv = DepthwiseConv2d(6, kernel_size, dilation, bias).to(memory_format=torch.channels_last)
    x = torch.randn(3, 6, *size).contiguous(memory_format=torch.channels_last)
    actual = run_with_gradients(conv, x)
    assert used == ['_DepthwiseConv']
    assert actual['weight'].stride() == conv.weight.stride()
    assert_same(actual, by_operators(conv, x))


@pytest.mark.usefixtures('processor')
def test_finite_differences(monkeypatch):
    def linear(x, weight, bias=None, residual=None):  # oneDNN has no double precision
        y = F.linear(x, weight, bias)
        return y if residual is None else y + residual.reshape(y.shape)

    monkeypatch.setattr(cpu_gradients.onednn, 'linear', linear)
    conv = DepthwiseConv2d(2, 5).double()
    x = torch.randn(2, 2, 4, 3, dtype=torch.double, requires_grad=True)
    args = (x, conv.weight, conv.bias, 2, (1, 1))
    assert torch.autograd.gradcheck(cpu_gradients._DepthwiseConv.apply, args)
    shapes = [(2, 3, 4, 5), (8, 5), (8,), (5, 8), (5,), (5,), (2, 3, 4, 5)]
    args = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(cpu_gradients._ScaledMlp.apply, args)
    assert torch.autograd.gradcheck(cpu_gradients._ScaledMlp.apply, (*args[:-2], None, None))


def test_a_whole_backbone_and_recomputation(used, by_operators):
    torch.manual_seed(0)
    plain = EdgeNeXt('xxsmall', layer_scale_init_value=0.3)
    recomputing = EdgeNeXt('xxsmall', layer_scale_init_value=0.3, with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 96)
    expected = by_operators(Single(plain), x)
    for model in (plain, recomputing):
        used.clear()
        assert_same(run_with_gradients(Single(model), x), expected)
        assert used.count('_ScaledMlp') >= sum(plain.arch.depths)


class Single(nn.Module):
    """The last of a backbone's maps."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x)[-1]


@pytest.mark.parametrize('case', ['evaluation', 'no gradients', 'autocast', 'double', 'own layer'])
def test_elsewhere_the_operators_are_used(case, used):
    encoder, x = ConvEncoder(8, 7), torch.randn(2, 8, 8, 8)
    if case == 'evaluation':
        encoder.eval()
    if case == 'double':
        encoder, x = encoder.double(), x.double()
    if case == 'own layer':
        encoder.pwconv1, encoder.dwconv = nn.Sequential(encoder.pwconv1), nn.Identity()
    with (
        torch.set_grad_enabled(case != 'no gradients'),
        torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'),
    ):
        encoder(x)
    assert used == []


def test_other_families_and_large_maps_use_the_operators(used):
    ConvEncoder(8, 7, norm='BN', act='HSwish')(torch.randn(2, 8, 65, 8))
    assert used == []


def test_frozen_weights_get_no_gradient():
    encoder = ConvEncoder(8, 7)
    encoder.pwconv1.requires_grad_(False)
    encoder(torch.randn(2, 8, 8, 8)).sum().backward()
    assert encoder.pwconv1.weight.grad is None
    assert encoder.pwconv2.weight.grad is not None


def test_function_transforms_use_the_operators(used):
    encoder, x = ConvEncoder(8, 7, layer_scale_init_value=0.3), torch.randn(3, 8, 8, 8)
    weights = dict(encoder.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(encoder, weights, (x[None],)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    assert used == []
    encoder(x).square().sum().backward()
    summed = {name: grads.sum(0) for name, grads in per_sample.items()}
    assert_same(summed, {name: p.grad for name, p in weights.items()})
