"""Inferring the architecture from weights, and refusing weights of another architecture."""

import pytest
import torch
from golden import official_state_dict
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.key_maps import to_ours
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS
from edgenext_mm.models.infer_arch import read_stages

ALL = (0, 1, 2, 3)


def test_stages_are_read_from_official_weights():
    assert read_stages(official_state_dict('edgenext_xx_small_bn_hs')) == (
        (24, 'BN', (('conv', 3),) * 2, 'patch', False),
        (48, 'BN', (('conv', 5), ('sdta', 4, 2, True)), 'layer', True),
        (88, 'BN', (*[('conv', 7)] * 5, ('sdta', 4, 3, False)), 'layer', True),
        (168, 'BN', (('conv', 9), ('sdta', 4, 4, False)), 'layer', True),
    )


@pytest.mark.parametrize('arch', ARCHS)
def test_stages_are_read_from_all_variants(arch):
    with torch.device('meta'):
        weights = EdgeNeXt(arch, out_indices=ALL, output_norms=True).state_dict()
    assert read_stages(weights) == ARCHS[arch].stages


def test_stages_are_read_after_a_prefix():
    weights = to_ours(official_state_dict('edgenext_xx_small'))
    assert read_stages(weights, 'backbone.') == ARCHS['xxsmall'].stages
    assert read_stages(weights) == ()


def test_only_complete_stages_are_read():
    weights = official_state_dict('edgenext_xx_small')
    weights = {k: v for k, v in weights.items() if not k.startswith('stages.2.3.pwconv')}
    assert read_stages(weights) == ARCHS['xxsmall'].stages[:2]


def test_other_models_have_no_stages():
    model = nn.ModuleDict(dict(stages=nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])))
    assert read_stages(model.state_dict()) == ()


def load_with_torch(model, weights):
    model.load_state_dict(weights)


def load_with_torch_not_strictly(model, weights):
    model.load_state_dict(weights, strict=False)


def load_with_mmengine(model, weights):
    load_state_dict(model, weights, strict=False)


LOADERS = [load_with_torch, load_with_torch_not_strictly, load_with_mmengine]


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_weights_of_another_arch_are_refused_with_names_and_shapes(load, prefix):
    model = nn.ModuleDict(dict(backbone=EdgeNeXt())) if prefix else EdgeNeXt()
    before = {name: value.clone() for name, value in model.state_dict().items()}
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
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('arch', 'texts'),
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
        (dict(base='xxsmall', conv_bias=False), ['another arch', 'only the encoders']),
        (
            dict(base='xxsmall', overlapping_stem=True),
            ['downsample_layers.0.0.weight 24x3x9x9 there, 24x3x4x4 here'],
        ),
    ],
)
def test_another_arch_with_the_same_channels_is_refused(arch, texts):
    with pytest.raises(UserError) as error:
        EdgeNeXt('xxsmall').load_state_dict(EdgeNeXt(arch).state_dict(), strict=False)
    for text in texts:
        assert text in str(error.value)


def test_pretrained_weights_of_another_arch_are_refused(tmp_path):
    weights = to_ours(official_state_dict('edgenext_xx_small'))
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict=weights), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = EdgeNeXt('xxsmall', init_cfg=init_cfg)
    model.init_weights()
    stem = 'downsample_layers.0.0.weight'
    torch.testing.assert_close(model.state_dict()[stem], weights[f'backbone.{stem}'])
    with pytest.raises(UserError, match=r"'xxsmall' .* model is 'xsmall'"):
        EdgeNeXt('xsmall', init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize(
    ('arguments', 'missing'),
    [
        (dict(output_stride=8), []),
        (dict(out_indices=1), []),
        (
            dict(output_norms=True, out_indices=(1, 3)),
            ['norm1.bias', 'norm1.weight', 'norm3.bias', 'norm3.weight'],
        ),
        (dict(arch=dict(base='xxsmall', act='ReLU')), []),
    ],
)
@pytest.mark.parametrize('load', LOADERS[1:])
def test_classifier_weights_can_be_used_in_other_backbones(load, arguments, missing):
    weights = official_state_dict('edgenext_xx_small')
    model = EdgeNeXt(**arguments)
    load(model, weights)
    own = dict(model.state_dict())
    assert sorted(own.keys() - weights.keys()) == missing
    for name in own.keys() & weights.keys():
        torch.testing.assert_close(own[name], weights[name], msg=name)


def test_a_backbone_with_fewer_stages_is_checked_too():
    with pytest.raises(UserError, match="'xsmall'"):
        EdgeNeXt('xsmall', out_indices=1).load_state_dict(
            official_state_dict('edgenext_xx_small'), strict=False
        )


def test_weights_of_another_model_are_reported_by_torch():
    with pytest.raises(RuntimeError, match='Missing key'):
        EdgeNeXt().load_state_dict({'conv1.weight': torch.zeros(64, 3, 7, 7)})
