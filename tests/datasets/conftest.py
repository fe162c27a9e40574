"""Data sets with faults."""

import shutil

import pytest
from broken_images import broken, damaged, rare


@pytest.fixture
def scenes(scenes_root, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(scenes_root, tmp_path / 'scenes')
    return tmp_path / 'scenes'


@pytest.fixture(scope='session')
def folder_of_all(few_digits, tmp_path_factory):
    """Digits, and among the zeros every file of tests/broken_images.py."""
    root = tmp_path_factory.mktemp('broken')
    shutil.copytree(few_digits, root, dirs_exist_ok=True)
    for name, case in {**broken(), **damaged(), **rare()}.items():
        (root / 'train' / '0' / f'{name}.jpg').write_bytes(case.content)
    return root
