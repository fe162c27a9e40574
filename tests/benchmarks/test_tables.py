import pytest
from paths import ROOT

from benchmarks.documents import find_table, update_table
from benchmarks.metafiles import complexity_table, zoo_table
from benchmarks.variants_table import variants_table
from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.checkpoints.zoo import TASKS
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model


@pytest.fixture(scope='module')
def table():
    return variants_table()


@pytest.mark.parametrize('document', ['README.md', 'configs/classification/README.md'])
def test_tables_in_documents_are_fresh(document, table):
    assert find_table(ROOT / document, 'variants') == table


def test_the_table_of_the_zoo_is_fresh():
    table = zoo_table([ROOT / 'configs' / task for task in TASKS])
    assert find_table(ROOT / 'docs' / 'model_zoo.md', 'zoo') == table


@pytest.mark.parametrize('task', TASKS[1:])
def test_tables_of_dense_configs_are_fresh(task):
    folder = ROOT / 'configs' / task
    assert find_table(folder / 'README.md', 'complexity') == complexity_table(folder)


def test_small_ssdlite_costs_what_the_paper_says():
    config = load_config(ROOT / 'configs/detection/ssdlite_edgenext-small_4xb32-200e_coco.py')
    cost = count_complexity(build_model(config), (320, 320), openmmlab=True)
    assert cost.params == pytest.approx(6.2e6, rel=0.05)
    assert cost.madds == pytest.approx(2.1e9, rel=0.05)


def test_a_table_replaces_what_stands_between_its_marks(tmp_path):
    path = tmp_path / 'a.md'
    longer = 'before\n<!-- begin x-y: make y -->\nanother\n<!-- end x-y -->\n'
    path.write_text(longer + '<!-- begin x: make x -->\nold\n<!-- end x -->\nafter\n')
    update_table(path, 'x', '| new |')
    expected = '<!-- begin x: make x -->\n\n| new |\n\n<!-- end x -->\nafter\n'
    assert path.read_text() == longer + expected
    assert find_table(path, 'x') == '| new |'


def test_a_document_without_marks_is_refused_and_kept(tmp_path):
    path = tmp_path / 'a.md'
    path.write_text('text')
    with pytest.raises(UserError, match=r"a\.md has no marks for the table 'x'"):
        update_table(path, 'x', '| new |')
    assert path.read_text() == 'text'
