import numpy as np
import pytest
from PIL import Image

from edgenext_mm.datasets import handwritten_digits as digits_module
from edgenext_mm.datasets import write_digits
from edgenext_mm.errors import UserError


def files(root, pattern='**/*.png'):
    return sorted(str(p.relative_to(root)) for p in root.glob(pattern))


def test_split_is_fixed_and_disjoint(digits_root):
    train, val = files(digits_root, 'train/**/*.png'), files(digits_root, 'val/**/*.png')
    assert (len(train), len(val)) == (1437, 360)
    indices = [int(name[-8:-4]) for name in train + val]
    assert sorted(indices) == list(range(1797))
    assert all(int(name[-8:-4]) % 5 == 0 for name in val)


def test_images_and_classes_are_those_of_scikit_learn(digits_root):
    from sklearn.datasets import load_digits

    source = load_digits()
    for index in (0, 5, 123, 1796):
        split = 'val' if index % 5 == 0 else 'train'
        path = digits_root / split / str(source.target[index]) / f'{index:04d}.png'
        image = np.asarray(Image.open(path))
        assert image.shape == (8, 8)
        np.testing.assert_allclose(image / 255, source.images[index] / 16, atol=0.002)


def test_writing_again_changes_nothing_and_refuses_a_folder_with_something_else(tmp_path):
    root = tmp_path / 'digits'
    assert write_digits(root)
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*.png')}
    assert not write_digits(root)
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*.png')} == before
    (root / 'notes.txt').write_text('mine')
    assert_refused_and_kept(root)
    (root / 'notes.txt').unlink()
    min(before).unlink()
    assert_refused_and_kept(root)


def assert_refused_and_kept(root):
    before = sorted(root.rglob('*'))
    with pytest.raises(UserError, match=r'something other than the 1797 digits.*Remove it'):
        write_digits(root)
    assert sorted(root.rglob('*')) == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def fail_late(image):
        calls.append(image)
        if len(calls) > 1000:
            raise KeyboardInterrupt
        return b''

    monkeypatch.setattr(digits_module, '_png', fail_late)
    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / 'digits')
    assert list(tmp_path.iterdir()) == []
