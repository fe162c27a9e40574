"""Images from wherever a user has them: files, folders, URLs, arrays."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Union

import numpy as np
from mmengine.fileio import get
from PIL import Image, ImageOps

from ..errors import UserError

ImageSource = Union[str, Path, np.ndarray, Image.Image]

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def is_single(source: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether a source is one image, rather than a folder or a sequence of sources."""
    return isinstance(source, (str, Path, np.ndarray, Image.Image)) and not _is_folder(source)


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, Path)) and os.path.isdir(source)


def list_images(sources: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """All images of one source or many; folders are searched with their sub-folders, in order.

    Raises:
        UserError: If a file or folder is not there, a source is something else, or no image is
            found.
    """
    if isinstance(sources, (str, bytes, np.ndarray)) or not isinstance(sources, Iterable):
        sources = [sources]
    images: list[ImageSource] = []
    for source in sources:
        if _is_folder(source):
            images.extend(_images_in(Path(str(source))))
        elif isinstance(source, (np.ndarray, Image.Image)) or _is_url(source):
            images.append(source)
        elif isinstance(source, (str, Path)) and os.path.isfile(source):
            images.append(Path(source))
        else:
            raise UserError(
                f'There is no image {str(source)[:200]!r}. Give a file, a folder, a URL, a Pillow '
                'image or an array.'
            )
    if not images:
        raise UserError('No image was given. Give files, folders, URLs or arrays.')
    return images


def _images_in(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob('*') if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise UserError(
            f'The folder {folder} holds no image. Known extensions: {", ".join(EXTENSIONS)}.'
        )
    return found


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
        return _from_array(np.asarray(source))  # of matrices and masked arrays, the plain one
    if isinstance(source, Image.Image):
        return _from_pillow(ImageOps.exif_transpose(source))
    try:
        content = get(str(source)) if _is_url(source) else Path(source).read_bytes()
    except Exception as error:  # each backend raises its own
        raise UserError(f'The image {source} cannot be read: {error}') from error
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _from_pillow(image)
    except Image.DecompressionBombError as error:
        raise UserError(
            f'{source} is too large: {error} Cut it up, or allow it with '
            '`PIL.Image.MAX_IMAGE_PIXELS = None`.'
        ) from error
    except Exception as error:  # what decoders raise at damaged files is of any kind
        raise UserError(
            f'{source} is no image that Pillow can read, or is cut short: {error}. '
            'Give a complete PNG, JPEG, WebP, TIFF or other image file.'
        ) from error


def _is_url(source: object) -> bool:
    return isinstance(source, str) and '://' in source


@functools.cache
def _formats() -> list[str]:
    """Those that Pillow decodes itself: for EPS, it would run what the file says in Ghostscript."""
    Image.init()
    return [name for name in Image.ID if name != 'EPS']


def _from_pillow(image: Image.Image) -> np.ndarray:
    if image.mode.startswith('I'):  # 16 bits, which convert() would clip
        return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16))
    return _from_array(np.asarray(image.convert('RGB'))[..., ::-1])


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
