"""The metafiles say of every config what it is."""

import pytest
import yaml
from conftest import ROOT
from mmengine.config import Config
from modelindex.load_model_index import load

from edgenext_mm.evaluation.documents import find_table
from edgenext_mm.evaluation.metafile import describe, zoo_table

MODELS = [
    model
    for path in sorted((ROOT / 'configs').glob('*/metafile.yml'))
    for model in yaml.safe_load(path.read_text())['Models']
]


def test_every_config_stands_in_a_metafile_once():
    configs = [str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('[!_]*/**/*.py')]
    assert sorted(model['Config'] for model in MODELS) == sorted(configs)
    names = [model['Name'] for model in MODELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('model', MODELS[::9], ids=lambda model: model['Name'])
def test_metafiles_are_not_stale(model):
    """Every ninth model; all together take minutes. `make docs` mends it."""
    path = ROOT / model['Config']
    assert describe(path, ROOT / 'configs' / path.relative_to(ROOT / 'configs').parts[0]) == model


def test_the_table_of_the_document_is_not_stale():
    assert find_table(ROOT / 'docs' / 'model_zoo.md', 'zoo') == zoo_table(ROOT)


def test_the_index_is_one_that_mim_reads():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == len(MODELS)
    model = next(m for m in index.models if m.name == 'edgenext-small_3rdparty_in1k')
    assert model.weights.endswith('v1.0/edgenext_small.pth')
    assert model.results[0].metrics == {'ImageNet-1K top-1': 79.41}


def test_paths_are_those_of_the_repository():
    assert all((ROOT / m['Config']).is_file() for m in MODELS)
    assert all(Config.fromfile(ROOT / m['Config']) for m in MODELS[:2])
