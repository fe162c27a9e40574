import pytest
import torch
from golden import official_state_dict

from edgenext_mm.checkpoints.contents import unwrap
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS
from edgenext_mm.models.conversion import convert


def classifier(arch):
    backbone = dict(type='edgenext_mm.EdgeNeXt', arch=arch, final_norm='auto')
    head = dict(type='LinearClsHead', num_classes=1000, in_channels=ARCHS[arch].dims[-1])
    from mmpretrain.registry import MODELS

    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head)).eval()


WEIGHTS = {'a.weight': torch.zeros(2), 'b.bias': torch.ones(1)}
OTHER = {'a.weight': torch.ones(2)}


@pytest.mark.parametrize(
    'checkpoint',
    [
        WEIGHTS,
        dict(model=WEIGHTS, epoch=3),
        dict(state_dict=WEIGHTS, meta={}),
        dict(model_ema=WEIGHTS, optimizer={}),
        dict(model={f'module.{k}': v for k, v in WEIGHTS.items()}),
        {f'module.{k}': v for k, v in WEIGHTS.items()},
        dict(state_dict=OTHER, model=WEIGHTS),
        dict(state_dict=OTHER, model=OTHER, model_ema=WEIGHTS),
        dict(model=WEIGHTS, model_ema=None),
        dict(model=OTHER, model_ema=dict(decay=0.999), state_dict_ema=WEIGHTS),
        dict(state_dict=OTHER, state_dict_ema=WEIGHTS, optimizer=dict(state={0: OTHER})),
        dict(model=OTHER, ema=dict(module=WEIGHTS, updates=7)),
        dict(net=OTHER, net_ema=WEIGHTS, rng=dict(cpu=torch.zeros(2, dtype=torch.uint8))),
        dict(network=WEIGHTS, rng=dict(cpu=torch.zeros(2, dtype=torch.uint8))),
        # mmengine's EMAHook: the average is under `state_dict`.
        dict(state_dict=WEIGHTS, ema_state_dict=dict(OTHER, steps=torch.ones(()))),
        dict(model={f'module._orig_mod.{k}': v for k, v in WEIGHTS.items()}),
    ],
)
def test_unwrap_finds_the_preferred_weights(checkpoint):
    found = unwrap(checkpoint)[1]
    assert found.keys() == WEIGHTS.keys()
    assert all(found[name] is value for name, value in WEIGHTS.items())


def test_unwrap_finds_an_entry_by_name():
    both = dict(model=WEIGHTS, model_ema=OTHER)
    assert unwrap(both, key='model') == ('model', WEIGHTS)
    both = {f'{n}.{k}': v for n, w in dict(a=WEIGHTS, b=OTHER).items() for k, v in w.items()}
    assert unwrap(dict(state_dict=both), key='b')[1].keys() == OTHER.keys()


def test_unwrap_fails_if_no_weights_are_preferred():
    with pytest.raises(UserError, match=r'several sets of weights: g, d\. .*--key NAME'):
        unwrap(dict(g=WEIGHTS, d=OTHER))


@pytest.mark.parametrize(
    ('checkpoint', 'key', 'texts'),
    [
        (dict(model=WEIGHTS, epoch=3), 'model_ema', ["no entry 'model_ema'", 'model, epoch']),
        (dict(epoch=3, args={}), None, ['no state dict', 'model_ema, model, state_dict', 'epoch']),
        (dict(model={}), None, ['no state dict']),
        (dict(model=dict(a=1)), None, ['no state dict', 'got model']),
        ({}, None, ['no state dict']),
        (dict.fromkeys('abcdefg'), None, ['a, b, c, d, e and 2 more']),
    ],
)
def test_errors_of_unwrap_show_the_content(checkpoint, key, texts):
    with pytest.raises(UserError) as error:
        unwrap(checkpoint, key)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize('wrapper', [None, 'model', 'model_ema'])
def test_an_official_file_becomes_a_checkpoint_of_the_classifier(wrapper):
    weights = official_state_dict('edgenext_xx_small')
    name, converted = convert({wrapper: weights} if wrapper else weights)
    assert name == 'xxsmall'
    assert converted['meta'] == dict(arch='xxsmall')
    missing, unexpected = classifier('xxsmall').load_state_dict(converted['state_dict'])
    assert not missing
    assert not unexpected


@pytest.mark.parametrize(
    ('changes', 'texts'),
    [
        (dict(extra=torch.zeros(1)), ['xxsmall', "unexpected ['backbone.extra']"]),
        ({'head.bias': None}, ['xxsmall', "missing ['head.fc.bias']"]),
        ({'stages.1.1.xca.temperature': torch.ones(8, 1, 1)}, ['not the weights', *ARCHS]),
    ],
)
def test_incomplete_or_unknown_weights_are_not_converted(changes, texts):
    weights = {**official_state_dict('edgenext_xx_small'), **changes}
    with pytest.raises(UserError) as error:
        convert({k: v for k, v in weights.items() if v is not None})
    for text in texts:
        assert text in str(error.value)
