import pytest
from conftest import ROOT

from edgenext_mm.errors import UserError
from edgenext_mm.evaluation.variants import BEGIN, END, update_table, variants_table


@pytest.fixture(scope='module')
def table():
    return variants_table()


@pytest.mark.parametrize('document', ['README.md', 'configs/classification/README.md'])
def test_tables_in_documents_are_fresh(document, table):
    text = (ROOT / document).read_text()
    assert text.split(BEGIN)[1].split(END)[0].strip() == table


def test_a_table_replaces_what_stands_between_its_marks(tmp_path):
    path = tmp_path / 'a.md'
    path.write_text(f'before\n{BEGIN}\nold\n{END}\nafter\n')
    update_table(path, '| new |')
    assert path.read_text() == f'before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n'


def test_a_document_without_marks_is_refused_and_kept(tmp_path):
    path = tmp_path / 'a.md'
    path.write_text('text')
    with pytest.raises(UserError, match=r'a\.md has no place for the table'):
        update_table(path, '| new |')
    assert path.read_text() == 'text'
