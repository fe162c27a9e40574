"""scikit-learn's 1,797 handwritten digits as an image folder. They need no download.

8x8 grey images from 43 writers (E. Alpaydin and C. Kaynak, UCI repository, CC BY 4.0), the test
part of the original set.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import new_folder

#: Every fifth image is for validation: 1,437 for training, 360 for validation.
VAL_EVERY = 5


def load_digits() -> Iterator[tuple[str, int, np.ndarray]]:
    """Yields the split, the class and the (8, 8) uint8 image of each digit."""
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

    After an error or an interruption, the folder does not exist.

    Args:
        root: The folder to create. If it exists, it must contain exactly these files.

    Returns:
        True if the files were written, False if they existed.

    Raises:
        UserError: If the folder contains something else, or scikit-learn is not installed.
    """
    root = Path(root)
    files = {
        f'{split}/{label}/{index:04d}.png': _png(image)
        for index, (split, label, image) in enumerate(load_digits())
    }
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        present = {str(p.relative_to(root)) for p in root.rglob('*') if p.is_file()}
        missing, others = sorted(files.keys() - present), sorted(present - files.keys())
        if missing or others:
            raise UserError(
                f'{root} exists and contains something other than the {len(files)} digits: '
                f'{len(missing)} of them are missing (first: {missing[:1]}), and there are '
                f'{len(others)} other files (first: {others[:1]}). Remove it, or give another '
                'folder.'
            )
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
