"""scikit-learn's 1,797 handwritten digits, laid out as a data set of one's own would be.

Real data that needs no download: 8x8 grey images from 43 writers (E. Alpaydin and C. Kaynak, UCI
repository, CC BY 4.0), the test part of the original set.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import new_folder

#: Every fifth image is for validation: 1,437 train, 360 val.
VAL_EVERY = 5


def load_digits() -> Iterator[tuple[str, int, np.ndarray]]:
    """Split, class and (8, 8) uint8 image of every digit."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise UserError(
            'The digits come with scikit-learn, which is not installed. '
            'Install it with `pip install scikit-learn`.'
        ) from error
    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for index, (image, label) in enumerate(zip(images, digits.target, strict=True)):
        yield 'val' if index % VAL_EVERY == 0 else 'train', int(label), image


def write_digits(root: str | os.PathLike[str]) -> bool:
    """Writes the digits as an image folder of PNGs, ``ROOT/{train,val}/{0..9}/*.png``.

    The folder appears at once and complete, or not at all.

    Args:
        root: The folder to make. If it is there, it must hold just these files.

    Returns:
        Whether anything was written: False if the folder was there.

    Raises:
        UserError: If the folder holds something else, or scikit-learn is not installed.
    """
    root = Path(root)
    files = {
        f'{split}/{label}/{index:04d}.png': _png(image)
        for index, (split, label, image) in enumerate(load_digits())
    }
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        _check_complete(root, files)
        return False
    with new_folder(root) as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return True


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format='PNG')
    return buffer.getvalue()


def _check_complete(root: Path, files: dict[str, bytes]) -> None:
    present = (
        {str(p.relative_to(root)) for p in root.rglob('*') if p.is_file()}
        if root.is_dir()
        else set()
    )
    missing, foreign = sorted(files.keys() - present), sorted(present - files.keys())
    if missing or foreign:
        raise UserError(
            f'{root} is there and holds something other than the {len(files)} digits: '
            f'{len(missing)} of them are missing (first: {missing[:1]}), {len(foreign)} other '
            f'files are there (first: {foreign[:1]}). Remove it, or give another folder.'
        )
