"""The deploy form computes what the original model computes, and cannot be trained."""

import copy
import pickle

import pytest
import torch
from golden import draw_like
from paths import DIGITS_CONFIG, ROOT
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.profiler import profile

from edgenext_mm import EdgeNeXt
from edgenext_mm.config import load_config
from edgenext_mm.deployment import DeployEdgeNeXt, form, switch_to_deploy
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS
from edgenext_mm.models.building import build_model
from edgenext_mm.models.layers import CrossCovarianceAttention

ALL = (0, 1, 2, 3)
LAYOUTS = pytest.mark.parametrize('layout', form.LAYOUTS)


def trained(arch='xxsmall', **arguments):
    """A model whose weights, statistics and scales are far from their initial values."""
    model = EdgeNeXt(arch, **{'layer_scale_init_value': 1e-6, 'out_indices': ALL, **arguments})
    model.load_state_dict(draw_like(model.state_dict()))
    return model.eval()


@torch.no_grad()
def assert_alike(model, deployed, *shape, tolerance=1e-5):
    x = torch.randn(*shape)
    for a, e in zip(deployed(x), model(x), strict=True):
        assert a.shape == e.shape
        torch.testing.assert_close(a.float(), e, rtol=0, atol=tolerance * e.abs().max().item())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def onednn_always(monkeypatch):
    """Small layers use oneDNN like large ones."""
    monkeypatch.setattr(form, 'ONEDNN_MIN_MADDS', 0)


@LAYOUTS
@pytest.mark.parametrize('arch', ARCHS)
def test_outputs_of_all_stages_equal_those_of_the_model(arch, layout):
    model = trained(arch)
    assert_alike(model, switch_to_deploy(model, layout), 2, 3, 97, 70)


@LAYOUTS
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
        dict(arch=dict(base='small_rw', norm='BN', depths=(1, 2, 2, 2)), output_stride=16),
    ],
    ids=str,
)
def test_every_setting_has_a_deploy_form(arguments, layout):
    model = trained(**arguments)
    channels = arguments.get('in_channels', 3)
    assert_alike(model, switch_to_deploy(model, layout), 2, channels, 96, 64)


@pytest.mark.parametrize('arch', ARCHS)
def test_layers_in_onednn_give_the_same(arch, onednn_always):
    model = trained(arch)
    assert_alike(model, switch_to_deploy(model), 2, 3, 97, 70)


def test_only_large_layers_use_onednn():
    deployed = switch_to_deploy(trained('small'))

    @torch.no_grad()
    def fused_calls(*shape):
        with profile() as profiled:
            deployed(torch.randn(*shape))
        events = profiled.key_averages()
        return sum(e.count for e in events if e.key.startswith('mkldnn::_linear_pointwise'))

    assert fused_calls(1, 3, 64, 64) == 0
    assert fused_calls(2, 3, 256, 256) > 0


def test_gradients_on_or_off_make_no_difference(onednn_always):
    deployed, x = switch_to_deploy(trained()), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused = deployed(x)
    for a, e in zip(fused, deployed(x), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())


@LAYOUTS
def test_bfloat16_by_autocast_and_by_conversion(layout):
    model = trained()
    deployed = switch_to_deploy(model, layout)

    def autocast(x):
        with torch.autocast('cpu', torch.bfloat16):
            return deployed(x)

    assert_alike(model, autocast, 1, 3, 64, 64, tolerance=0.1)
    converted = copy.deepcopy(deployed).bfloat16()
    assert_alike(model, lambda x: converted(x.bfloat16()), 1, 3, 64, 64, tolerance=0.1)


@pytest.mark.parametrize('layout', [name for name in form.LAYOUTS if name != 'xnnpack'])
@torch.no_grad()
def test_half_precision_takes_keys_of_any_length(layout):
    """Results do not depend on the length of the keys, which overflows when it is squared."""
    model = trained()
    long = copy.deepcopy(model)
    for module in long.modules():
        if isinstance(module, CrossCovarianceAttention):
            rows = slice(len(module.proj.weight), 2 * len(module.proj.weight))
            module.qkv.weight[rows] *= 8000
            module.qkv.bias[rows] *= 8000
    deployed = switch_to_deploy(long, layout).half()
    assert_alike(model, lambda x: deployed(x.half()), 1, 3, 128, 128, tolerance=0.02)


@torch.no_grad()
def test_the_input_of_an_encoder_is_not_changed():
    encoder, before = switch_to_deploy(trained()).stages[0][0], torch.randn(1, 24, 16, 16)
    x = before.clone(memory_format=torch.channels_last)
    encoder(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_the_original_is_not_changed():
    model = trained()
    before = copy.deepcopy(model.state_dict())
    switch_to_deploy(model)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert all(p.requires_grad for p in model.train().parameters())


def test_norm_scales_layer_scales_and_batch_norm_are_folded():
    deployed = switch_to_deploy(trained('xxsmall_bnhs'))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    names = [name for name, _ in switch_to_deploy(trained()).named_parameters()]
    assert not any('gamma' in name or 'norm' in name for name in names if 'stages' in name)


def test_synchronised_batch_norm_is_folded_with_its_statistics():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(trained('xxsmall_bnhs'))
    assert_alike(model, switch_to_deploy(model), 1, 3, 64, 64)


def test_a_model_that_contains_a_backbone_is_switched():
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


# Weights that change after the switch.


def weights_of(seed):
    """A model with other weights for each seed."""
    torch.manual_seed(seed)
    model = EdgeNeXt(out_indices=ALL, layer_scale_init_value=1.0).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@LAYOUTS
@torch.no_grad()
def test_a_weight_changed_in_the_original_counts_at_the_next_switch(layout, onednn_always):
    model = trained()
    switch_to_deploy(model, layout)(torch.randn(1, 3, 64, 64))
    for i, parameter in enumerate(model.parameters()):
        (parameter.data if i % 2 else parameter).mul_(1.1)  # `data` leaves no version behind
    assert_alike(model, switch_to_deploy(model, layout), 1, 3, 64, 64)


@LAYOUTS
@torch.no_grad()
def test_weights_changed_in_the_deploy_form_count_at_the_next_call(layout, onednn_always):
    """All of them at once, by loading; the reference is the original of the loaded weights."""
    source, target = weights_of(1), switch_to_deploy(weights_of(2), layout)
    target(torch.randn(1, 3, 64, 64))
    state = switch_to_deploy(source, layout).state_dict()
    for name, value in [*target.named_parameters(), *target.named_buffers()]:
        value.data.copy_(state[name])
    assert_alike(source, target, 1, 3, 64, 64)
    assert_alike(source, pickle.loads(pickle.dumps(target)), 1, 3, 64, 64)
    target.load_state_dict(switch_to_deploy(weights_of(3), layout).state_dict())
    assert_alike(weights_of(3), copy.deepcopy(target), 1, 3, 64, 64)


# Image sizes.


@LAYOUTS
def test_a_fixed_size_makes_the_positional_encoding_a_constant(layout):
    model = trained()
    deployed = switch_to_deploy(model, layout, image_size=(96, 160))
    assert_alike(model, deployed, 2, 3, 96, 160)
    assert not any(name.endswith(('rows', 'columns')) for name in deployed.state_dict())
    with pytest.raises(UserError, match=r'for images of \(96, 160\), got \(64, 64\)'):
        deployed(torch.randn(1, 3, 64, 64))


@LAYOUTS
def test_a_fixed_size_that_overlapping_convolutions_round_up(layout):
    model = trained(dict(base='small_rw', depths=(1, 2, 2, 2)))
    deployed = switch_to_deploy(model, layout, image_size=(97, 70))
    assert_alike(model, deployed, 2, 3, 97, 70)


def test_sizes_may_change_unless_one_is_fixed():
    model = trained()
    deployed = switch_to_deploy(model)
    for size in (64, 96, 64):
        assert_alike(model, deployed, 1, 3, size, 64)


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
@LAYOUTS
@torch.no_grad()
def test_a_trace_holds_no_operator_in_place(arch, layout):
    # Core ML, ncnn and others lose what such an operator writes to a view.
    deployed = switch_to_deploy(trained(arch), layout)
    traced = torch.jit.trace(deployed, torch.randn(1, 3, 64, 64))
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert not {kind for kind in kinds if kind.endswith('_') and not kind.endswith('__')}
    assert_alike(deployed, traced, 1, 3, 64, 64)


# Errors.


def test_training_is_refused():
    deployed = switch_to_deploy(build_model(load_config(DIGITS_CONFIG)))
    with pytest.raises(UserError, match='for inference only'):
        deployed.train()
    deployed.eval()


def pruned(model):
    prune.l1_unstructured(model.backbone.stages[0][0].pwconv1, 'weight', 0.5)


def pruned_head(model):
    prune.l1_unstructured(model.head.fc, 'bias', 0.5)


def parametrized(model):
    parametrizations.weight_norm(model.backbone.downsample_layers[0][0])


def quantized(model):
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True)


def hooked(model):
    model.backbone.stages[1].register_forward_hook(lambda *_: None)


def hooked_backbone(model):
    model.backbone.register_forward_pre_hook(lambda *_: None)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (pruned, r'`backbone\.stages\.0\.0\.pwconv1` is pruned.*prune\.remove\(module, .weight.\)'),
        (pruned_head, r'`head\.fc` is pruned.*prune\.remove\(module, .bias.\)'),
        (
            parametrized,
            r'`backbone\.downsample_layers\.0\.0` is parametrized.*'
            r'remove_parametrizations\(module, .weight.\)',
        ),
        (quantized, r'`backbone\.stages\.0\.0\.pwconv1` is quantized.*--precision int8'),
        (hooked, r'`backbone\.stages\.1` has a forward hook.*handle\.remove\(\)'),
        (hooked_backbone, r'`backbone` has a forward hook'),
    ],
)
def test_weights_and_hooks_that_would_be_lost_are_refused(change, message):
    model = build_model(load_config(DIGITS_CONFIG)).eval()
    change(model)
    with pytest.raises(UserError, match=f'(?s){message}'):
        switch_to_deploy(model)


def test_a_bare_backbone_with_a_hook_is_refused():
    model = EdgeNeXt()
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match='This EdgeNeXt has a forward hook'):
        switch_to_deploy(model)


@pytest.mark.parametrize(
    ('switch', 'message'),
    [
        (lambda: switch_to_deploy(nn.Linear(1, 1)), 'This Linear contains no EdgeNeXt'),
        (
            lambda: switch_to_deploy(EdgeNeXt(), 'sideways'),
            r"layout 'sideways'.*channels_last, channels_first",
        ),
        (
            lambda: switch_to_deploy(EdgeNeXt())(torch.randn(1, 3, 16, 64)),
            'at least 32x32 pixels, got 16x64',
        ),
    ],
)
def test_wrong_arguments_are_refused(switch, message):
    with pytest.raises(UserError, match=message):
        switch()
