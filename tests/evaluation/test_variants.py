import pytest
from conftest import ROOT

from edgenext_mm.errors import UserError
from edgenext_mm.evaluation.documents import find_table, update_table
from edgenext_mm.evaluation.variants import variants_table


@pytest.fixture(scope='module')
def table():
    return variants_table()


@pytest.mark.parametrize('document', ['README.md', 'configs/classification/README.md'])
def test_tables_in_documents_are_fresh(document, table):
    assert find_table(ROOT / document, 'variants') == table


def test_a_table_replaces_what_stands_between_its_marks(tmp_path):
    path = tmp_path / 'a.md'
    path.write_text('before\n<!-- begin x: make x -->\nold\n<!-- end x -->\nafter\n')
    update_table(path, 'x', '| new |')
    expected = 'before\n<!-- begin x: make x -->\n\n| new |\n\n<!-- end x -->\nafter\n'
    assert path.read_text() == expected
    assert find_table(path, 'x') == '| new |'


def test_a_document_without_marks_is_refused_and_kept(tmp_path):
    path = tmp_path / 'a.md'
    path.write_text('text')
    with pytest.raises(UserError, match=r"a\.md has no place for the table 'x'"):
        update_table(path, 'x', '| new |')
    assert path.read_text() == 'text'
