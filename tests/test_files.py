"""Files are written completely, and names with dots are kept."""

import hashlib

import pytest
import torch

from edgenext_mm.checkpoints.writing import write_hashed_checkpoint
from edgenext_mm.deployment import FORMATS
from edgenext_mm.files import remove_leftovers, replacing
from edgenext_mm.runtime.formats import with_ending


@pytest.mark.parametrize('name', FORMATS)
def test_the_ending_of_a_format_is_added_to_a_name(name):
    ending = FORMATS[name].suffix
    for given in ('birds-v1.0', 'out.d/birds', 'birds.best', 'v1'):
        assert str(with_ending(given, name)) == given + ending
        assert str(with_ending(given + ending, name)) == given + ending
    other = next(kind.suffix for kind in FORMATS.values() if kind.suffix != ending)
    assert str(with_ending(f'birds-v1.0{other}', name)) == f'birds-v1.0{ending}'


@pytest.mark.parametrize(
    ('name', 'start', 'end'),
    [('birds-v1.0', 'birds-v1.0-', ''), ('birds-v1.0.pth', 'birds-v1.0-', '.pth')],
)
def test_the_hash_comes_after_the_name(tmp_path, name, start, end):
    path = write_hashed_checkpoint(dict(state_dict=dict(a=torch.ones(1))), tmp_path / name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'{start}{digest[:8]}{end}'


def test_files_that_differ_after_a_dot_do_not_meet(tmp_path):
    with replacing(tmp_path / 'birds-v1.0') as first, replacing(tmp_path / 'birds-v1.1') as second:
        first.write_text('0')
        second.write_text('1')
        remove_leftovers(tmp_path, 'birds-v1.0')
        assert not first.exists()
        assert second.exists()
        first.write_text('0')
    assert (tmp_path / 'birds-v1.0').read_text() == '0'
    assert (tmp_path / 'birds-v1.1').read_text() == '1'
