import pytest
import torch
from golden import (
    VARIANTS,
    draw_like,
    golden_outputs,
    make_input,
    official_state_dict,
)
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS
from edgenext_mm.models.checkpoint import (
    convert_official,
    official_to_ours,
    ours_to_official,
    read_stages,
    unwrap,
)

ALL = (0, 1, 2, 3)


def official_weights(arch):
    """Weights under the authors' names, which the golden outputs confirm for two variants."""
    backbone = EdgeNeXt(arch, final_norm='auto')
    weights = {**backbone.state_dict(), 'head.weight': torch.zeros(1000, backbone.arch.dims[-1])}
    return draw_like({**weights, 'head.bias': torch.zeros(1000)})


def classifier(arch):
    backbone = dict(type='edgenext_mm.EdgeNeXt', arch=arch, final_norm='auto')
    head = dict(type='LinearClsHead', num_classes=1000, in_channels=ARCHS[arch].dims[-1])
    from mmpretrain.registry import MODELS

    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head)).eval()


# Key names.


@pytest.mark.parametrize('variant', VARIANTS)
@torch.no_grad()
def test_official_weights_give_the_classifier_the_official_logits(variant):
    model = classifier(VARIANTS[variant])
    model.load_state_dict(official_to_ours(official_state_dict(variant)))
    for size, expected in golden_outputs(variant).items():
        logits = model(make_input(*size), mode='tensor')
        atol = 1e-4 * expected['logits'].abs().max().item()
        torch.testing.assert_close(logits, expected['logits'], rtol=0, atol=atol)


@pytest.mark.parametrize('variant', VARIANTS)
def test_names_survive_the_round_trip(variant):
    weights = official_state_dict(variant)
    converted = official_to_ours(weights)
    assert not set(weights) & set(converted)
    back = ours_to_official(converted)
    assert list(back) == list(weights)
    assert all(back[name] is value for name, value in weights.items())


@pytest.mark.parametrize('arch', ARCHS)
def test_names_of_every_variant_are_those_of_its_classifier(arch):
    weights, ours = official_weights(arch), classifier(arch).state_dict()
    assert {k: v.shape for k, v in official_to_ours(weights).items()} == {
        k: v.shape for k, v in ours.items()
    }
    assert set(ours_to_official(ours)) == set(weights)


# What a file wraps.

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
    ],
)
def test_unwrap_finds_the_weights_best_first(checkpoint):
    found = unwrap(checkpoint)
    assert found.keys() == WEIGHTS.keys()
    assert all(found[name] is value for name, value in WEIGHTS.items())


def test_unwrap_takes_the_entry_that_is_named():
    assert unwrap(dict(model=WEIGHTS, model_ema=OTHER), key='model').keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ('checkpoint', 'key', 'told'),
    [
        (dict(model=WEIGHTS, epoch=3), 'model_ema', ["no entry 'model_ema'", 'model, epoch']),
        (dict(epoch=3, args={}), None, ['no state dict', 'model_ema, model, state_dict', 'epoch']),
        (dict(model={}), None, ['no state dict']),
        (dict(model=dict(a=1)), None, ['no state dict', 'got a']),
        ({}, None, ['no state dict']),
        (dict.fromkeys('abcdefg'), None, ['a, b, c, d, e and 2 more']),
    ],
)
def test_unwrap_tells_what_is_there_instead(checkpoint, key, told):
    with pytest.raises(UserError) as error:
        unwrap(checkpoint, key)
    for text in told:
        assert text in str(error.value)


@pytest.mark.parametrize('wrapper', [None, 'model', 'model_ema'])
def test_an_official_file_becomes_a_checkpoint_of_the_classifier(wrapper):
    weights = official_state_dict('edgenext_xx_small')
    converted = convert_official({wrapper: weights} if wrapper else weights)
    assert converted['meta'] == dict(arch='xxsmall')
    missing, unexpected = classifier('xxsmall').load_state_dict(converted['state_dict'])
    assert not missing
    assert not unexpected


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        (dict(extra=torch.zeros(1)), ['xxsmall', "unexpected ['backbone.extra']"]),
        ({'head.bias': None}, ['xxsmall', "missing ['head.fc.bias']"]),
        ({'stages.1.1.xca.temperature': torch.ones(8, 1, 1)}, ['not the weights', *ARCHS]),
    ],
)
def test_a_file_that_is_not_official_is_refused(changes, told):
    weights = {**official_state_dict('edgenext_xx_small'), **changes}
    with pytest.raises(UserError) as error:
        convert_official({k: v for k, v in weights.items() if v is not None})
    for text in told:
        assert text in str(error.value)


# Which architecture weights are of.


def test_stages_are_read_from_official_weights():
    assert read_stages(official_state_dict('edgenext_xx_small_bn_hs')) == (
        (24, 'BN', (('conv', 3),) * 2),
        (48, 'BN', (('conv', 5), ('sdta', 4, 2, True))),
        (88, 'BN', (*[('conv', 7)] * 5, ('sdta', 4, 3, False))),
        (168, 'BN', (('conv', 9), ('sdta', 4, 4, False))),
    )


@pytest.mark.parametrize('arch', ARCHS)
def test_stages_are_read_from_the_weights_of_every_variant(arch):
    weights = EdgeNeXt(arch, out_indices=ALL, output_norms=True).state_dict()
    assert read_stages(weights) == ARCHS[arch].stages


def test_stages_are_read_behind_a_prefix():
    weights = official_to_ours(official_state_dict('edgenext_xx_small'))
    assert read_stages(weights, 'backbone.') == ARCHS['xxsmall'].stages
    assert read_stages(weights) == ()


def test_only_complete_stages_are_read():
    weights = official_state_dict('edgenext_xx_small')
    weights = {k: v for k, v in weights.items() if not k.startswith('stages.2.3.pwconv')}
    assert read_stages(weights) == ARCHS['xxsmall'].stages[:2]


def test_other_models_have_no_stages():
    model = nn.ModuleDict(dict(stages=nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])))
    assert read_stages(model.state_dict()) == ()


# Weights of another architecture.


def load_with_torch(model, weights):
    model.load_state_dict(weights)


def load_with_torch_not_strictly(model, weights):
    model.load_state_dict(weights, strict=False)


def load_with_mmengine(model, weights):
    load_state_dict(model, weights, strict=False)


LOADERS = [load_with_torch, load_with_torch_not_strictly, load_with_mmengine]


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_weights_of_another_arch_are_refused_with_both_names_and_shapes(load, prefix):
    model = classifier('xxsmall') if prefix else EdgeNeXt('xxsmall')
    weights = {prefix + k: v for k, v in EdgeNeXt('small').state_dict().items()}
    with pytest.raises(UserError) as error:
        load(model, weights)
    for text in (
        "'small'",
        "'xxsmall'",
        'downsample_layers.0.0.weight 48x3x4x4 there, 24x3x4x4 here',
        'downsample_layers.0.0.bias 48 there, 24 here',
        '`arch`',
    ):
        assert text in str(error.value)


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize(
    ('arch', 'told'),
    [
        (dict(base='xxsmall', depths=(2, 2, 5, 2)), ['(2, 2, 5, 2)', '(2, 2, 6, 2)']),
        (dict(base='xxsmall', depths=(2, 2, 7, 2)), ['(2, 2, 7, 2)', '(2, 2, 6, 2)']),
        (dict(base='xxsmall', num_heads=8), ['xca.temperature 8x1x1 there, 4x1x1 here']),
        (dict(base='xxsmall', kernel_sizes=3), ['dwconv.weight 48x1x3x3 there, 48x1x5x5 here']),
        (dict(base='xxsmall', scales=2), ['another arch']),
        (dict(base='xxsmall', num_sdta=0), ['another arch']),
        (dict(base='xxsmall', sdta_first=True), ['another arch']),
        (dict(base='xxsmall', pos_encoding=False), ['another arch']),
        ('xxsmall_bnhs', ["'xxsmall_bnhs'", "'xxsmall'", 'BN', 'LN']),
    ],
)
def test_weights_of_the_same_widths_are_refused_too(load, arch, told):
    with pytest.raises(UserError) as error:
        load(EdgeNeXt('xxsmall'), EdgeNeXt(arch).state_dict())
    for text in told:
        assert text in str(error.value)


def test_the_weights_stay_as_they_were_after_a_refusal():
    model = EdgeNeXt('xxsmall')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError):
        load_with_mmengine(model, EdgeNeXt('xsmall').state_dict())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_pretrained_weights_of_another_arch_are_refused(tmp_path):
    weights = official_to_ours(official_state_dict('edgenext_xx_small'))
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict=weights), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = EdgeNeXt('xxsmall', init_cfg=init_cfg)
    model.init_weights()
    stem = 'downsample_layers.0.0.weight'
    torch.testing.assert_close(model.state_dict()[stem], weights[f'backbone.{stem}'])
    with pytest.raises(UserError, match=r"'xxsmall' .* model is 'xsmall'"):
        EdgeNeXt('xsmall', init_cfg=init_cfg).init_weights()


# Weights of the same architecture, for another task.


@pytest.mark.parametrize(
    ('arguments', 'missing'),
    [
        (dict(output_stride=8), []),
        (dict(output_stride=16, out_indices=ALL), []),
        (
            dict(output_norms=True, out_indices=(1, 3)),
            ['norm1.bias', 'norm1.weight', 'norm3.bias', 'norm3.weight'],
        ),
        (dict(arch=dict(base='xxsmall', act='ReLU')), []),
    ],
)
@pytest.mark.parametrize('load', LOADERS[1:])
def test_classifier_weights_serve_dense_tasks(load, arguments, missing):
    weights = official_state_dict('edgenext_xx_small')
    model = EdgeNeXt(**arguments)
    load(model, weights)
    own = dict(model.state_dict())
    assert sorted(own.keys() - weights.keys()) == missing
    for name in own.keys() & weights.keys():
        torch.testing.assert_close(own[name], weights[name], msg=name)


def test_a_backbone_of_fewer_stages_takes_its_share():
    weights = official_state_dict('edgenext_xx_small')
    model = EdgeNeXt(out_indices=1)
    assert not model.load_state_dict(weights, strict=False).missing_keys
    with pytest.raises(UserError, match="'xsmall'"):
        EdgeNeXt('xsmall', out_indices=1).load_state_dict(weights, strict=False)


def test_weights_of_another_model_are_left_to_torch():
    with pytest.raises(RuntimeError, match='Missing key'):
        EdgeNeXt().load_state_dict({'conv1.weight': torch.zeros(64, 3, 7, 7)})
