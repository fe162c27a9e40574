"""Layer-wise learning-rate decay."""

import pytest
from mmengine.optim import build_optim_wrapper
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm import EdgeNeXt
from edgenext_mm.config import load_config
from edgenext_mm.engine.schedule import check_schedule
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model

OURS = 'edgenext_mm.LayerDecayOptimWrapperConstructor'


def test_layers_grow_along_the_network():
    model = EdgeNeXt('small', final_norm='auto')
    depth = {
        n: model.get_layer_depth(f'backbone.{n}', 'backbone.') for n, _ in model.named_parameters()
    }
    assert {total for _, total in depth.values()} == {8}
    layers = {n: layer for n, (layer, _) in depth.items()}
    assert layers['downsample_layers.0.0.weight'] == 0
    assert layers['stages.0.2.gamma'] == 1
    assert layers['downsample_layers.1.1.weight'] == layers['stages.1.0.gamma'] == 2
    assert layers['downsample_layers.2.1.weight'] == layers['stages.2.2.gamma'] == 3
    assert layers['stages.2.3.gamma'] == 4
    assert layers['stages.2.8.gamma'] == 5
    assert layers['downsample_layers.3.1.weight'] == layers['stages.3.0.gamma'] == 6
    assert layers['norm.weight'] == 7
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (7, 8)


def test_three_encoders_are_a_layer_in_all_variants():
    model = EdgeNeXt('xxsmall')
    assert model.get_layer_depth('stages.2.5.gamma') == (4, 7)
    assert model.get_layer_depth('stages.3.0.gamma') == (5, 7)


def test_rates_decay_towards_the_stem():
    config = load_config(DIGITS_CONFIG)
    wrapper = dict(
        config.optim_wrapper,
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5, norm_decay_mult=0.0, flat_decay_mult=0.0),
    )
    import mmpretrain.engine  # noqa: F401

    model = build_model(config)
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    rates = {g['param_name']: g['lr'] for g in optimizer.param_groups}
    assert rates['head.fc.weight'] == 2e-3
    assert rates['backbone.stages.3.0.gamma'] == 2e-3 / 2
    assert rates['backbone.downsample_layers.0.0.weight'] == 2e-3 / 2**6
    decays = {g['param_name']: g['weight_decay'] for g in optimizer.param_groups}
    assert decays['backbone.stages.3.0.gamma'] == 0
    assert decays['backbone.stages.3.0.pwconv1.weight'] == 0.05


@pytest.mark.parametrize(
    ('config', 'head'),
    [
        ('detection/gfl_edgenext-xxsmall_fpn_digits.py', 'bbox_head.gfl_cls.weight'),
        (
            'segmentation/deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512.py',
            'decode_head.conv_seg.weight',
        ),
    ],
)
def test_rates_of_a_dense_model_decay_towards_the_stem(config, head):
    """xxsmall has six layers: stem, two stages, twice three encoders, the last stage."""
    config = load_config(ROOT / 'configs' / config)
    wrapper = dict(
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        constructor=OURS,
        paramwise_cfg=dict(
            layer_decay_rate=0.5, norm_decay_mult=0.0, custom_keys={'stages.1': dict(lr_mult=3)}
        ),
    )
    optimizer = build_optim_wrapper(build_model(config), wrapper).optimizer
    groups = {g['param_name']: g for g in optimizer.param_groups}
    rates = {name: group['lr'] * 1e3 for name, group in groups.items()}
    assert rates[head] == 1
    assert rates['backbone.stages.3.0.gamma'] == pytest.approx(1 / 2)
    assert rates['backbone.stages.2.3.gamma'] == pytest.approx(1 / 4)
    assert rates['backbone.stages.2.2.gamma'] == pytest.approx(1 / 8)
    assert rates['backbone.stages.1.0.gamma'] == pytest.approx(3 / 16)
    assert rates['backbone.stages.0.0.gamma'] == pytest.approx(1 / 32)
    assert rates['backbone.downsample_layers.0.0.weight'] == pytest.approx(1 / 64)
    assert groups['backbone.stages.0.0.norm.weight']['weight_decay'] == 0
    assert groups['backbone.stages.0.0.pwconv1.weight']['weight_decay'] == 0.05


@pytest.mark.parametrize('rate', [None, 0, 1.5, '0.8'])
def test_an_invalid_decay_rate_is_refused(rate):
    wrapper = dict(optimizer=dict(type='SGD', lr=1), constructor=OURS)
    wrapper['paramwise_cfg'] = dict(layer_decay_rate=rate)
    with pytest.raises(UserError, match=f'layer_decay_rate` is a number .* got {rate!r}'):
        build_optim_wrapper(EdgeNeXt(), wrapper)


@pytest.mark.parametrize('name', ['mmdet.LearningRateDecay', 'LayerDecay'])
def test_constructors_without_edgenext_are_refused(name):
    config = load_config(ROOT / 'configs/detection/gfl_edgenext-xxsmall_fpn_digits.py')
    config.optim_wrapper.constructor = f'{name}OptimizerConstructor'
    with pytest.raises(UserError, match=f"Set it to '{OURS}'"):
        check_schedule(config)
