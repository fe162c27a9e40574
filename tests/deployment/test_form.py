"""The deploy form gives what the model gives, and cannot be trained."""

import copy
import pickle

import pytest
import torch
from golden import draw_like
from paths import DIGITS_CONFIG, ROOT
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.config import load_config
from edgenext_mm.deployment import DeployEdgeNeXt, switch_to_deploy
from edgenext_mm.deployment import fused_layers as layers
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS
from edgenext_mm.models.building import build_model
from edgenext_mm.models.layers import CrossCovarianceAttention

ALL = (0, 1, 2, 3)


def trained(arch='xxsmall', **arguments):
    """A model whose every weight, statistic and scale is far from where it would start."""
    model = EdgeNeXt(arch, **{'layer_scale_init_value': 1e-6, 'out_indices': ALL, **arguments})
    model.load_state_dict(draw_like(model.state_dict()))
    return model.eval()


def assert_alike(model, deployed, *shape):
    x = torch.randn(*shape)
    with torch.no_grad():
        expected, actual = model(x), deployed(x)
    assert len(expected) == len(actual)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())
    return actual


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def small_layers_fused(monkeypatch):
    """Layers take the way of large ones."""
    monkeypatch.setattr(layers, '_FUSED_FROM', 0)


@pytest.mark.parametrize('layout', layers.LAYOUTS)
@pytest.mark.parametrize('arch', ARCHS)
def test_outputs_of_all_stages_are_those_of_the_model(arch, layout):
    model = trained(arch)
    for shape in ((1, 3, 64, 64), (2, 3, 97, 140)):
        assert_alike(model, switch_to_deploy(model, layout), *shape)


@pytest.mark.parametrize('layout', layers.LAYOUTS)
@pytest.mark.parametrize(
    'arguments',
    [
        dict(final_norm='auto', out_indices=(3,)),
        dict(arch='xxsmall_bnhs', final_norm='auto', out_indices=(1, 3)),
        dict(output_norms=True),
        dict(arch='xxsmall_bnhs', output_norms=True),
        dict(output_stride=8),
        dict(arch='xxsmall_bnhs', output_stride=16),
        dict(layer_scale_init_value=0),
        dict(out_indices=(1,)),
        dict(in_channels=1),
        dict(arch=dict(base='small', depths=(1, 1, 3, 1), num_sdta=(0, 0, 0, 0))),
        dict(arch=dict(base='xxsmall', num_sdta=(1, 1, 1, 1), pos_encoding=True)),
    ],
    ids=str,
)
def test_every_setting_has_a_deploy_form(arguments, layout):
    model = trained(**arguments)
    channels = arguments.get('in_channels', 3)
    assert_alike(model, switch_to_deploy(model, layout), 2, channels, 96, 64)


@pytest.mark.parametrize('arch', ARCHS)
def test_large_layers_give_the_same(arch, small_layers_fused):
    model = trained(arch)
    assert_alike(model, switch_to_deploy(model), 2, 3, 97, 140)


def test_only_large_layers_are_fused(monkeypatch):
    fused = []
    linear = layers.onednn.linear
    monkeypatch.setattr(
        layers.onednn,
        'linear',
        lambda x, weight, *args: fused.append(weight) or linear(x, weight, *args),
    )
    deployed = switch_to_deploy(trained('small'))
    with torch.no_grad():
        deployed(torch.randn(1, 3, 64, 64))
        assert not fused
        deployed(torch.randn(2, 3, 256, 256))
    assert any(weight is deployed.stages[0][0].expand.weight for weight in fused)


def test_gradients_on_or_off_make_no_difference(small_layers_fused):
    model = trained()
    deployed, x = switch_to_deploy(model), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused = deployed(x)
    plain = deployed(x)
    for a, e in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())


@pytest.mark.parametrize('layout', layers.LAYOUTS)
def test_autocast_runs_it(layout):
    model = trained()
    deployed, x = switch_to_deploy(model, layout), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast('cpu', torch.bfloat16):
            actual = deployed(x)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.float(), e, rtol=0, atol=0.1 * e.abs().max().item())


def test_inputs_stay_as_they_are():
    encoder, before = switch_to_deploy(trained()).stages[0][0], torch.randn(1, 24, 16, 16)
    x = before.clone(memory_format=torch.channels_last)
    with torch.no_grad():
        encoder(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_the_original_is_untouched():
    model = trained()
    before = copy.deepcopy(model.state_dict())
    switch_to_deploy(model)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    model.train()
    assert all(p.requires_grad for p in model.parameters())


def test_norm_scales_layer_scales_and_batch_norm_are_gone():
    deployed = switch_to_deploy(trained('xxsmall_bnhs'))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    names = [name for name, _ in switch_to_deploy(trained()).named_parameters()]
    assert not any('gamma' in name or 'norm' in name for name in names if 'stages' in name)


def test_any_model_that_holds_a_backbone_is_switched():
    config = load_config(
        ROOT / 'configs/segmentation/deeplabv3_edgenext-xxsmall_digits.py',
        {'model.backbone.init_cfg': None},
    )
    model = build_model(config).eval()
    deployed = switch_to_deploy(model)
    assert isinstance(deployed.backbone, DeployEdgeNeXt)
    assert isinstance(model.backbone, EdgeNeXt)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-5)


def test_weights_are_saved_and_loaded(small_layers_fused):
    torch.manual_seed(1)
    source, target = switch_to_deploy(trained()), switch_to_deploy(EdgeNeXt(out_indices=ALL))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        target(x)
        target.load_state_dict(source.state_dict())
        expected = source(x)
        for copied in (target, copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
            torch.testing.assert_close(copied(x), expected)


def test_other_precisions_go_the_plain_way():
    model = trained()
    deployed, x = switch_to_deploy(model).bfloat16(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, e in zip(deployed(x.bfloat16()), model(x), strict=True):
            torch.testing.assert_close(a.float(), e, rtol=0, atol=0.1 * e.abs().max().item())


@pytest.mark.parametrize('layout', layers.LAYOUTS)
def test_half_precision_takes_keys_of_any_length(layout):
    model = trained()
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = model(x)  # does not depend on the length of the keys
        for module in model.modules():
            if isinstance(module, CrossCovarianceAttention):
                rows = slice(len(module.proj.weight), 2 * len(module.proj.weight))
                module.qkv.weight[rows] *= 8000
                module.qkv.bias[rows] *= 8000
        deployed = switch_to_deploy(model, layout).half()
        for a, e in zip(deployed(x.half()), expected, strict=True):
            torch.testing.assert_close(a.float(), e, rtol=0, atol=0.02 * e.abs().max().item())


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
@pytest.mark.parametrize('layout', layers.LAYOUTS)
def test_a_trace_holds_no_operator_in_place(arch, layout):
    # Core ML, ncnn and others lose what such an operator writes to a view.
    deployed = switch_to_deploy(trained(arch), layout)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        traced = torch.jit.trace(deployed, x)
        kinds = {node.kind() for node in traced.inlined_graph.nodes()}
        assert not {kind for kind in kinds if kind.endswith('_') and not kind.endswith('__')}
        for a, e in zip(traced(x), deployed(x), strict=True):
            torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())


@pytest.mark.parametrize('layout', layers.LAYOUTS)
def test_weights_changed_in_place_count_at_the_next_call(layout, small_layers_fused):
    deployed, x = switch_to_deploy(trained(), layout), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        deployed(x)
        for i, parameter in enumerate(deployed.parameters()):
            change = parameter.data if i % 2 else parameter  # `data` counts no changes
            change.mul_(1.1)
        changed = copy.deepcopy(deployed)
        for a, e in zip(deployed(x), changed(x), strict=True):
            torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())


# A fixed size.


@pytest.mark.parametrize('layout', layers.LAYOUTS)
def test_a_fixed_size_makes_the_positional_encoding_a_constant(layout):
    model = trained()
    deployed = switch_to_deploy(model, layout, image_size=(96, 160))
    assert_alike(model, deployed, 2, 3, 96, 160)
    assert not any('token_projection' in name for name in deployed.state_dict())
    with pytest.raises(UserError, match=r'for images of \(96, 160\), got \(64, 64\)'):
        deployed(torch.randn(1, 3, 64, 64))


def test_sizes_may_change_where_none_is_fixed():
    model = trained()
    deployed = switch_to_deploy(model)
    for size in (64, 96, 64, 128):
        assert_alike(model, deployed, 1, 3, size, 64)


# Errors.


def test_training_is_refused():
    deployed = switch_to_deploy(build_model(load_config(DIGITS_CONFIG)))
    with pytest.raises(UserError, match='for inference only'):
        deployed.train()
    deployed.eval()


def test_a_model_without_edgenext_is_refused():
    with pytest.raises(UserError, match='no EdgeNeXt in this Linear'):
        switch_to_deploy(nn.Linear(1, 1))


def test_an_unknown_layout_is_refused():
    with pytest.raises(UserError, match=r"layout 'sideways'.*channels_last, channels_first"):
        switch_to_deploy(EdgeNeXt(), 'sideways')


def test_a_small_image_is_refused():
    with pytest.raises(UserError, match='at least 32x32 pixels, got 16x64'):
        switch_to_deploy(EdgeNeXt())(torch.randn(1, 3, 16, 64))
