import importlib
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from golden import draw_like, make_input
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.errors import UserError

ALL = (0, 1, 2, 3)
DIMS = (24, 48, 88, 168)
STRIDES = (4, 8, 16, 32)
NO_SDTA = dict(base='xxsmall', num_sdta=(0, 0, 0, 0))


def drawn(*args, **kwargs):
    """A backbone in evaluation mode, with weights for which all branches matter."""
    model = EdgeNeXt(*args, **kwargs)
    model.load_state_dict(draw_like(model.state_dict()))
    return model.eval()


def layer_norm(x, norm):
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, 1e-6)


def encoders(model):
    return [encoder for stage in model.stages for encoder in stage]


def shapes(outputs):
    return [tuple(y.shape) for y in outputs]


# The architecture.


@pytest.mark.parametrize(
    ('field', 'value', 'name', 'shape'),
    [
        ('dims', (16, 48, 88, 168), 'downsample_layers.0.0.weight', (16, 3, 4, 4)),
        ('num_heads', 8, 'stages.1.1.xca.temperature', (8, 1, 1)),
        ('kernel_sizes', (3, 3, 3, 5), 'stages.3.0.dwconv.weight', (168, 1, 5, 5)),
        ('num_sdta', (1, 1, 1, 1), 'stages.0.1.xca.qkv.weight', (72, 24)),
        ('num_sdta', (0, 1, 1, 2), 'stages.3.0.convs.2.weight', (42, 1, 3, 3)),
        ('sdta_first', True, 'stages.2.0.xca.proj.weight', (88, 88)),
        ('scales', 4, 'stages.1.1.convs.2.weight', (12, 1, 3, 3)),
        ('pos_encoding', True, 'stages.3.1.pos_embd.token_projection.weight', (168, 64, 1, 1)),
        ('norm', 'BN', 'stages.0.0.norm.running_mean', (24,)),
    ],
)
def test_a_field_of_the_arch_has_its_effect(field, value, name, shape):
    changed = EdgeNeXt(dict(base='xxsmall', **{field: value})).state_dict()
    plain = EdgeNeXt('xxsmall').state_dict()
    assert changed[name].shape == shape
    assert name not in plain or plain[name].shape != shape


def test_depths_activation_and_positions_of_the_arch_have_their_effect():
    model = EdgeNeXt(dict(base='xxsmall', depths=(1, 1, 3, 2), act='ReLU', pos_encoding=False))
    assert [len(stage) for stage in model.stages] == [1, 1, 3, 2]
    assert {type(encoder.act) for encoder in encoders(model)} == {nn.ReLU}
    assert not [name for name in model.state_dict() if 'pos_embd' in name]


def test_only_convolutions_of_the_batch_norm_family_drop_their_biases():
    biased = {
        name.rpartition('.')[0]
        for name, module in EdgeNeXt('xxsmall_bnhs').named_modules()
        if isinstance(module, nn.Conv2d) and module.bias is not None
    }
    assert {name.split('.')[-1] for name in biased} == {'convs', 'pos_embd'}


# Inputs and outputs.


@pytest.mark.parametrize('in_channels', [1, 4])
def test_images_can_have_other_channels(in_channels):
    model = drawn(in_channels=in_channels)
    x = torch.ones(1, in_channels, 64, 64)
    changed = x.clone()
    changed[:, -1, 3, 3] += 1
    assert model(x)[0].shape == (1, 168, 2, 2)
    assert not torch.equal(model(changed)[0], model(x)[0])


@pytest.mark.parametrize(
    ('out_indices', 'stages'),
    [((3,), [3]), ([0, 2], [0, 2]), ((3, 1), [3, 1]), (1, [1]), (-1, [3]), ((-4, -2), [0, 2])],
)
@torch.no_grad()
def test_out_indices_select_stages_in_their_order(out_indices, stages):
    model, x = drawn(out_indices=out_indices), make_input(1, 64, 96)
    every = drawn(out_indices=ALL)(x)
    outputs = model(x)
    assert isinstance(outputs, tuple)
    torch.testing.assert_close(outputs, tuple(every[i] for i in stages))
    assert len(model.stages) == len(model.downsample_layers) == max(stages) + 1


@pytest.mark.parametrize(('height', 'width'), [(64, 96), (67, 93), (32, 127)])
@torch.no_grad()
def test_maps_have_the_size_of_the_image_over_the_stride_rounded_down(height, width):
    outputs = EdgeNeXt(out_indices=ALL).eval()(make_input(2, height, width))
    assert shapes(outputs) == [
        (2, dim, height // stride, width // stride)
        for dim, stride in zip(DIMS, STRIDES, strict=True)
    ]


@torch.no_grad()
def test_incomplete_rows_and_columns_are_ignored():
    model, x = drawn(out_indices=ALL), make_input(1, 67, 93)
    torch.testing.assert_close(model(x), model(x[..., :64, :92]))


@pytest.mark.parametrize('stage', ALL)
@torch.no_grad()
def test_an_image_smaller_than_the_stride_is_refused(stage):
    model, stride = EdgeNeXt(out_indices=stage).eval(), STRIDES[stage]
    assert shapes(model(torch.rand(1, 3, stride, stride))) == [(1, DIMS[stage], 1, 1)]
    with pytest.raises(UserError, match=f'at least {stride}x{stride} .* got {stride}x{stride - 1}'):
        model(torch.rand(1, 3, stride, stride - 1))


@torch.no_grad()
def test_a_dilated_model_takes_images_down_to_its_own_stride():
    model = EdgeNeXt(output_stride=8).eval()
    assert shapes(model(torch.rand(1, 3, 8, 9))) == [(1, 168, 1, 1)]
    with pytest.raises(UserError, match=r'at least 8x8 .* got 7x8'):
        model(torch.rand(1, 3, 7, 8))


@pytest.mark.parametrize('arguments', [dict(), dict(output_norms=True), dict(output_stride=8)])
@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
@torch.no_grad()
def test_maps_inside_are_channels_last_in_memory(arch, arguments):
    model, maps = EdgeNeXt(arch, out_indices=ALL, **arguments).eval(), []
    for name, module in model.named_modules():
        # Those of the SDTA encoders' scales see some of a map's channels.
        if isinstance(module, nn.Conv2d) and '.convs.' not in name:
            module.register_forward_hook(lambda module, x, y: maps.extend((*x, y)))
    model(make_input(2, 64, 96))
    # Stem, 3 downsampling layers, 9 Conv. encoders, positions; what they see and what they give.
    assert len(maps) == 2 * (1 + 3 + 9 + 1)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)


# Regularisation and the parameters of the encoders.


@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_drop_path_increases_linearly(rate):
    model = EdgeNeXt(drop_path_rate=rate)
    rates = [encoder.drop_path.drop_prob for encoder in encoders(model)]
    assert rates == pytest.approx([rate * i / 11 for i in range(12)])


@pytest.mark.parametrize(('rate', 'differs'), [(0.0, False), (0.5, True)])
@torch.no_grad()
def test_drop_path_makes_training_random(rate, differs):
    model, x = drawn(drop_path_rate=rate).train(), make_input(4, 32, 32)
    torch.manual_seed(0)
    assert torch.equal(model(x)[0], model(x)[0]) != differs
    torch.testing.assert_close(model.eval()(x), drawn()(x))


@pytest.mark.parametrize('value', [1e-6, 0.5, 1])
def test_layer_scales_start_at_the_given_value(value):
    named = EdgeNeXt(layer_scale_init_value=value).named_parameters()
    scales = [p for name, p in named if 'gamma' in name]
    assert len(scales) == 12 + 3  # one for each encoder, and one for each attention
    for scale in scales:
        torch.testing.assert_close(scale, torch.full_like(scale, float(value)))


@torch.no_grad()
def test_without_layer_scale_branches_are_not_scaled():
    model, x = EdgeNeXt(layer_scale_init_value=0).eval(), make_input(1, 64, 64)
    weights = model.state_dict()
    scaled = EdgeNeXt(layer_scale_init_value=1.0).eval()
    assert not [name for name in weights if 'gamma' in name]
    assert not scaled.load_state_dict(weights, strict=False).unexpected_keys
    torch.testing.assert_close(model(x), scaled(x))


@pytest.mark.parametrize('ratio', [2, 1.5])
def test_mlp_ratio_sets_the_hidden_width(ratio):
    model = EdgeNeXt(mlp_ratio=ratio)
    for encoder in encoders(model):
        dim = encoder.pwconv1.in_features
        assert encoder.pwconv1.out_features == encoder.pwconv2.in_features == dim * ratio


# Norms of the outputs.


@torch.no_grad()
def test_output_norms_give_each_map_a_norm_of_its_own():
    model, x = drawn(out_indices=ALL, output_norms=True), make_input(1, 64, 96)
    plain = drawn(out_indices=ALL)
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        f'norm{i}.{name}' for i in ALL for name in ('weight', 'bias')
    }
    for i, (y, y_plain) in enumerate(zip(model(x), plain(x), strict=True)):
        expected = layer_norm(y_plain.movedim(1, -1), model.get_submodule(f'norm{i}'))
        torch.testing.assert_close(y, expected.movedim(-1, 1))


@pytest.mark.parametrize('final_norm', ['pool_first', 'norm_first', 'auto'])
@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
@torch.no_grad()
def test_final_norm_pools_and_normalises_in_its_order(arch, final_norm):
    model, x = drawn(arch, final_norm=final_norm), make_input(2, 64, 96)
    norm, y = model.norm, drawn(arch)(x)[0]
    family_order = 'pool_first' if arch == 'xxsmall' else 'norm_first'
    order = family_order if final_norm == 'auto' else final_norm
    y = y.mean((2, 3), keepdim=True) if order == 'pool_first' else y
    if arch == 'xxsmall':
        y = layer_norm(y.movedim(1, -1), norm).movedim(-1, 1)
    else:
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        y = (y - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(model(x)[0], y.mean((2, 3)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_final_norm_keeps_output_norms_of_other_stages():
    model = drawn(out_indices=(3, 0), final_norm='auto', output_norms=True)
    assert shapes(model(make_input(2, 64, 96))) == [(2, 168), (2, 24, 16, 24)]
    assert [name for name, _ in model.named_children() if name.startswith('norm')] == [
        'norm',
        'norm0',
    ]


# Dilation.


@pytest.mark.parametrize('size', [64, 65])
@pytest.mark.parametrize('output_stride', [16, 8])
@torch.no_grad()
def test_output_stride_bounds_the_stride_of_every_map(output_stride, size):
    model = EdgeNeXt(out_indices=ALL, output_stride=output_stride).eval()
    outputs = model(make_input(1, size, size))
    sides = [size // min(stride, output_stride) for stride in STRIDES]
    assert shapes(outputs) == [(1, d, s, s) for d, s in zip(DIMS, sides, strict=True)]


@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('norm', ['LN', 'BN'])
@torch.no_grad()
def test_a_dilated_map_contains_the_map_without_dilation(output_stride, norm):
    arch, x = dict(NO_SDTA, norm=norm), make_input(1, 64, 96)
    plain = drawn(arch, out_indices=ALL)
    dilated = EdgeNeXt(arch, out_indices=ALL, output_stride=output_stride).eval()
    dilated.load_state_dict(plain.state_dict())
    for stride, y, expected in zip(STRIDES, dilated(x), plain(x), strict=True):
        step = max(stride // output_stride, 1)
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(y[..., ::step, ::step], expected, rtol=0, atol=atol)


@pytest.mark.parametrize('output_stride', [32, 16, 8])
def test_gradients_reach_every_parameter(output_stride):
    model = EdgeNeXt(
        out_indices=ALL,
        output_stride=output_stride,
        output_norms=True,
        layer_scale_init_value=1.0,
    )
    sum(y.square().mean() for y in model(make_input(2, 64, 96))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


# Training mode.


@pytest.mark.parametrize('arguments', [dict(), dict(frozen_stages=2), dict(norm_eval=True)])
def test_changing_the_mode_returns_the_model(arguments):
    model = EdgeNeXt(**arguments)
    assert model.train() is model
    assert model.eval() is model


STEM, FIRST = ('downsample_layers.0.',), ('downsample_layers.0.', 'stages.0.')


@pytest.mark.parametrize(
    ('frozen_stages', 'frozen'),
    [
        (-1, ()),
        (0, STEM),
        (1, FIRST),
        (2, (*FIRST, 'downsample_layers.1.', 'stages.1.')),
        (4, tuple(f'{part}.{i}.' for part in ('downsample_layers', 'stages') for i in ALL)),
    ],
)
def test_frozen_stages_stay_frozen_in_training(frozen_stages, frozen):
    model = EdgeNeXt('xxsmall_bnhs', frozen_stages=frozen_stages, final_norm='auto').train()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen), name
    for name, module in model.named_modules():
        assert module.training != f'{name}.'.startswith(frozen), name


def changed_statistics(model):
    """Stages whose running statistics a training step changes; ``stem`` for what is no stage."""
    before = deepcopy(dict(model.named_buffers()))
    model.train()(make_input(2, 64, 64))
    names = [name for name, value in model.named_buffers() if not torch.equal(value, before[name])]
    return sorted({name.split('.')[1] if name.startswith('stages') else 'stem' for name in names})


@pytest.mark.parametrize(
    ('arguments', 'changed'),
    [
        (dict(), ['0', '1', '2', '3', 'stem']),
        (dict(frozen_stages=1), ['1', '2', '3', 'stem']),
        (dict(frozen_stages=4), []),
        (dict(norm_eval=True), []),
    ],
)
def test_running_statistics_of_layers_that_train_change(arguments, changed):
    assert changed_statistics(EdgeNeXt('xxsmall_bnhs', **arguments)) == changed


def test_norm_eval_concerns_batch_norm_only():
    model = EdgeNeXt('xxsmall_bnhs', norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(m.training for m in norms)
    assert all(m.training for m in model.modules() if m not in norms)


def step(model):
    """Number of values kept for the backward pass, output, and the state after a training step."""
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = model.train()(make_input(2, 64, 64))[0]
    y.square().mean().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return sum(kept), (y.detach(), grads, dict(model.named_buffers()))


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
def test_recomputation_saves_memory_and_changes_nothing(arch):
    kept, state = step(drawn(arch, drop_path_rate=0.2))
    kept_with_cp, state_with_cp = step(drawn(arch, drop_path_rate=0.2, with_cp=True))
    assert kept_with_cp < kept / 4
    torch.testing.assert_close(state_with_cp, state)


# Initialisation.


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
def test_initialisation_is_that_of_the_paper(arch):
    model = EdgeNeXt(arch, final_norm='auto')
    spoiled = [p for name, p in model.named_parameters() if not name.endswith('temperature')]
    for parameter in spoiled:
        nn.init.constant_(parameter, 1e-6)
    torch.manual_seed(0)
    model.init_weights()
    weights = []
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        if name.endswith('bias'):
            torch.testing.assert_close(value, torch.zeros_like(value), msg=name)
        elif name.endswith('temperature'):
            torch.testing.assert_close(value, torch.ones_like(value), msg=name)
        elif 'gamma' in name:
            torch.testing.assert_close(value, torch.full_like(value, 1e-6), msg=name)
        elif value.ndim == 1:
            torch.testing.assert_close(value, torch.ones_like(value), msg=name)
        else:
            # Five standard errors around the std of a sample.
            tolerance = 5 * 0.02 / (2 * value.numel()) ** 0.5
            assert value.std().item() == pytest.approx(0.02, abs=tolerance), name
            weights.append(value.flatten())
    assert torch.cat(weights).mean().item() == pytest.approx(0, abs=1e-4)


def test_init_cfg_replaces_the_default():
    model = EdgeNeXt(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    linear = model.stages[0][0].pwconv1.weight.clone()
    model.init_weights()
    assert {m.weight.unique().item() for m in model.modules() if isinstance(m, nn.Conv2d)} == {0.5}
    assert torch.equal(model.stages[0][0].pwconv1.weight, linear)


# The arguments.


@pytest.mark.parametrize(
    ('arguments', 'texts'),
    [
        (dict(arch='tiny'), ["'tiny'", 'xxsmall', 'small_bnhs']),
        (dict(output_stride=4), ['`output_stride`', '(32, 16, 8)', 'got 4']),
        (dict(output_stride=None), ['`output_stride`', '(32, 16, 8)', 'got None']),
        (
            dict(final_norm='last'),
            ['`final_norm`', 'None', 'auto', 'pool_first', 'norm_first', "got 'last'"],
        ),
        (
            dict(final_norm='auto', out_indices=(0, 2)),
            ['`final_norm`', 'last stage', '`out_indices` is (0, 2)', 'Add 3'],
        ),
        (dict(frozen_stages=5), ['`frozen_stages`', 'between -1 (none) and 4 (all)', 'got 5']),
        (dict(drop_path_rate=1.0), ['`drop_path_rate`', 'at least 0 and below 1', 'got 1.0']),
        (dict(frozen_stages=-2), ['`frozen_stages`', 'between -1 (none) and 4 (all)', 'got -2']),
        (dict(out_indices=(0, 4)), ['`out_indices`', 'between -4 and 3', 'got (0, 4)']),
        (dict(out_indices=-5), ['`out_indices`', 'between -4 and 3', 'got -5']),
        (dict(out_indices=()), ['`out_indices`', 'between -4 and 3', 'got ()']),
        (dict(out_indices=(3, -1)), ['`out_indices`', 'different', 'got (3, -1)']),
        (dict(out_indices=(0, 1.0)), ['`out_indices`', 'integers', 'got (0, 1.0)']),
        (dict(out_indices='23'), ['`out_indices`', 'integers', "got '23'"]),
    ],
)
def test_errors_for_wrong_arguments_say_what_is_accepted(arguments, texts):
    with pytest.raises(UserError) as error:
        EdgeNeXt(**arguments)
    for text in texts:
        assert text in str(error.value)


def test_the_arguments_of_the_caller_are_not_changed():
    arguments = dict(
        arch=dict(base='xxsmall', depths=[1, 1, 3, 1]),
        out_indices=[-1, 0],
        init_cfg=[dict(type='TruncNormal', layer=['Conv2d'], std=0.02)],
    )
    before = deepcopy(arguments)
    model = EdgeNeXt(**arguments)
    model.init_weights()
    model(make_input(1, 32, 32))
    assert arguments == before


# In other code.


@pytest.mark.parametrize('library', ['mmpretrain', 'mmdet', 'mmseg', 'mmrotate'])
def test_all_libraries_can_build_it(library):
    registry = importlib.import_module(f'{library}.registry').MODELS
    model = registry.build(dict(type='edgenext_mm.EdgeNeXt', arch='xsmall', out_indices=(0, 1)))
    assert type(model) is EdgeNeXt
    assert model.arch.dims == (32, 64, 100, 192)
    assert model.out_indices == (0, 1)


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@torch.no_grad()
def test_a_traced_model_agrees_at_every_size(arch):
    base = dict(base=arch, depths=(1, 1, 1, 1))
    model = drawn(dict(base, num_sdta=(0, 1, 0, 1)), out_indices=ALL)
    traced = torch.jit.trace(model, make_input(1, 64, 96), check_trace=False)
    for size in ((1, 64, 96), (2, 96, 32)):
        torch.testing.assert_close(traced(make_input(*size)), model(make_input(*size)))
