"""Names of published formats: round trips, against the libraries that use them."""

import itertools

import pytest
import torch
from golden import draw_like

from benchmarks.models import TIMM_NAMES
from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.key_maps import FORMATS, recognise, rename, to_ours
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS


def official_weights(arch):
    """A classifier's weights without memory, under the original names."""
    with torch.device('meta'):
        weights = EdgeNeXt(arch, final_norm='auto').state_dict()
        return {
            **weights,
            'head.weight': torch.empty(1000, ARCHS[arch].dims[-1]),
            'head.bias': torch.empty(1000),
        }


def assert_identical(a, b):
    assert list(a) == list(b)
    assert all(a[name] is b[name] for name in a)


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize(
    'way',
    [
        ('official', 'ours', 'timm', 'mmpretrain', 'official'),
        ('official', 'mmpretrain', 'timm', 'ours', 'official'),
    ],
    ids='-'.join,
)
def test_round_trips_are_identical(arch, way):
    weights = official_weights(arch)
    current = weights
    for source, target in itertools.pairwise(way):
        current = rename(current, source, target)
        assert recognise(current) == target
        assert_identical(to_ours(current), rename(weights, 'official', 'ours'))
    assert_identical(current, weights)


@pytest.mark.parametrize('kind', FORMATS)
def test_a_backbone_alone_becomes_ours(kind):
    weights = {k: v for k, v in official_weights('xsmall').items() if not k.startswith('head')}
    expected = rename(weights, 'official', 'ours')
    assert set(expected) == {f'backbone.{name}' for name in weights}
    assert_identical(to_ours(rename(weights, 'official', kind)), expected)


@pytest.mark.parametrize('arch', TIMM_NAMES)
@torch.no_grad()
def test_timm_takes_and_gives_weights(arch):
    import timm

    from edgenext_mm.checkpoints.zoo import find_config
    from edgenext_mm.config import load_config
    from edgenext_mm.models.building import build_model

    theirs = timm.create_model(TIMM_NAMES[arch]).eval()
    ours = build_model(load_config(find_config(f'edgenext-{arch}_8xb256_in1k'))).eval()
    weights = draw_like(ours.state_dict())
    ours.load_state_dict(weights)
    theirs.load_state_dict(rename(weights, 'ours', 'timm'), strict=True)
    x = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    expected = theirs(x)
    scale = expected.abs().max().item()
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-4 * scale)
    ours.load_state_dict(to_ours(theirs.state_dict()), strict=True)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize('arch', ['xxsmall', 'xsmall', 'small', 'base'])
def test_mmpretrain_takes_weights(arch):
    from mmpretrain.models.backbones import EdgeNeXt as Theirs

    weights = rename(official_weights(arch), 'official', 'mmpretrain')
    own = Theirs(arch=arch).state_dict()
    backbone = {
        k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')
    }
    assert {k: v.shape for k, v in backbone.items()} == {k: v.shape for k, v in own.items()}


def test_names_of_other_models_are_left_alone():
    weights = {'conv1.weight': torch.zeros(1), 'head.weight': torch.zeros(1)}
    assert recognise(weights) is None
    assert to_ours(weights) == weights


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match="Unknown format 'keras'"):
        rename({}, 'official', 'keras')
