"""Names of published formats: round trips, against the libraries that use them."""

import itertools

import pytest
import torch

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


def shapes(weights):
    return {name: value.shape for name, value in weights.items()}


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
def test_timm_has_the_same_names_and_shapes(arch, timm_edgenext):
    theirs = getattr(timm_edgenext, TIMM_NAMES[arch])().state_dict()
    weights = official_weights(arch)
    assert shapes(rename(weights, 'official', 'timm')) == shapes(theirs)
    assert shapes(to_ours(theirs)) == shapes(to_ours(weights))


@pytest.mark.parametrize('arch', ['xxsmall', 'xsmall', 'small', 'base'])
def test_mmpretrain_has_the_same_names_and_shapes(arch):
    from mmpretrain.models.backbones import EdgeNeXt as Theirs

    theirs = {f'backbone.{k}': v for k, v in Theirs(arch=arch).state_dict().items()}
    weights = rename(official_weights(arch), 'official', 'mmpretrain')
    head = {k: weights[k] for k in ('head.fc.weight', 'head.fc.bias')}
    assert shapes(weights) == shapes({**theirs, **head})


def test_names_of_other_models_are_not_changed():
    weights = {'conv1.weight': torch.zeros(1), 'head.weight': torch.zeros(1)}
    assert recognise(weights) is None
    assert to_ours(weights) == weights


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match="Unknown format 'keras'"):
        rename({}, 'official', 'keras')
