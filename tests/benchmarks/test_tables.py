import pytest
from paths import ROOT

from benchmarks.documents import find_table, update_table
from benchmarks.metafiles import complexity_table, zoo_table
from benchmarks.variants_table import variants_table
from edgenext_mm.checkpoints.zoo import TASKS
from edgenext_mm.errors import UserError


def test_tables_in_documents_are_up_to_date():
    variants, folders = variants_table(), [ROOT / 'configs' / task for task in TASKS]
    for document in ('README.md', 'configs/classification/README.md'):
        assert find_table(ROOT / document, 'variants') == variants
    assert find_table(ROOT / 'docs' / 'model_zoo.md', 'zoo') == zoo_table(folders)
    for folder in folders[1:]:
        assert find_table(folder / 'README.md', 'complexity') == complexity_table(folder)


def test_a_table_is_written_between_its_marks(tmp_path):
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
