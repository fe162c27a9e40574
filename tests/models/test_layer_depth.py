"""Layer-wise learning-rate decay, by mmpretrain's constructor."""

from mmengine.optim import build_optim_wrapper
from paths import DIGITS_CONFIG

from edgenext_mm import EdgeNeXt
from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.model import build_model


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


def test_every_third_encoder_of_a_shallow_arch_is_a_layer_too():
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
