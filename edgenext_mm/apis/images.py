"""Images from wherever a user has them: files, folders, URLs, arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Union

import numpy as np
from mmengine.fileio import get
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError

ImageSource = Union[str, Path, np.ndarray, Image.Image]

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def is_single(source: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether a source is one image, rather than a folder or a sequence of sources."""
    if isinstance(source, (str, Path)):
        return not Path(source).is_dir()
    return isinstance(source, (np.ndarray, Image.Image))


def list_images(sources: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """All images of one source or many; folders are searched with their sub-folders, in order.

    Raises:
        UserError: If a file or folder is not there, or no image is found.
    """
    if isinstance(sources, (str, Path, np.ndarray, Image.Image)):
        sources = [sources]
    images: list[ImageSource] = []
    for source in sources:
        if not isinstance(source, (str, Path)) or _is_url(source):
            images.append(source)
            continue
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS)
            if not found:
                raise UserError(
                    f'The folder {path} holds no image. Known extensions: {", ".join(EXTENSIONS)}.'
                )
            images.extend(found)
        elif path.is_file():
            images.append(path)
        else:
            raise UserError(f'There is no image {path}. Give a file, a folder, a URL or an array.')
    if not images:
        raise UserError('No image was given. Give files, folders, URLs or arrays.')
    return images


def read_image(source: ImageSource) -> np.ndarray:
    """One image, upright and in eight-bit colour.

    Files are read as Pillow shows them: turned as their EXIF data says, grey and palettes spread
    to colour, transparency dropped; of 16-bit images the upper eight bits count.

    Args:
        source: A file, a URL, a Pillow image, or an (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
            array of uint8 or uint16, its channels in OpenMMLab's order: blue, green, red, alpha.

    Returns:
        (H, W, 3) uint8, blue-green-red.

    Raises:
        UserError: If it cannot be read as an image.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    try:
        content = get(str(source)) if _is_url(source) else Path(source).read_bytes()
    except Exception as error:  # each backend raises its own
        raise UserError(f'The image {source} cannot be read: {error}') from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            return _from_pillow(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f'{source} is no image that Pillow can read, or is cut short: {error}. '
            'Give a complete PNG, JPEG, WebP, TIFF or other image file.'
        ) from error


def _is_url(source: object) -> bool:
    return isinstance(source, str) and '://' in source


def _from_pillow(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits, which convert() would clip
        return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16))
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    channels = array.shape[2] if array.ndim == 3 else 1
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or channels not in (1, 3, 4)
        or not array.size
    ):
        raise UserError(
            'An image array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16, '
            f'got {array.shape} of {array.dtype}.'
        )
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[..., :3])
