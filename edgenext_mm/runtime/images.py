"""Reads and resizes images as the loading and resizing steps of OpenMMLab do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import UserError
from .sources import ImageSource

PILLOW_FILTERS = {
    name: getattr(Image.Resampling, name.upper())
    for name in ('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming')
}


class Pixels(NamedTuple):
    """The pixels of an image.

    Args:
        array: (H, W, 3) uint8 red-green-blue, or (H, W, 1) grey.
        full_size: (H, W) of the image in its file, upright; larger than the array if the image was
            read in a reduced size.
    """

    array: np.ndarray
    full_size: tuple[int, int]


def read_image(
    source: ImageSource,
    grey: bool = False,
    needed: Callable[[int, int], tuple[int, int]] | None = None,
) -> Pixels:
    """Reads an image in eight-bit colour, rotated by its EXIF orientation.

    Args:
        source: A file, a Pillow image, or an (H, W) or (H, W, C) uint8 array with channels in the
            order blue, green, red, alpha.
        grey: Whether to convert it to grey. Default: False.
        needed: Maps width and height of the image to those that are needed. A JPEG file is then
            decoded at 1/2, 1/4 or 1/8 of its size, if that is not smaller. Default: None, the full
            size.

    Raises:
        UserError: If it cannot be read as an image.
    """
    if isinstance(source, (np.ndarray, Image.Image)):
        image = _from_array(source) if isinstance(source, np.ndarray) else source
        full_size = image.size
    else:
        try:
            image = Image.open(source)
            full_size = image.size
            if needed is not None:
                upright = _turned(image, image.size)
                image.draft(None, _turned(image, needed(*upright)))  # other formats ignore it
            image.load()
        except FileNotFoundError as error:
            raise UserError(f'There is no image {str(source)!r}.') from error
        except Exception as error:  # decoders raise anything
            raise UserError(
                f'{source} is not an image that Pillow can read: {error}. Give a complete PNG, '
                'JPEG, WebP or another image file.'
            ) from error
    width, height = _turned(image, full_size)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(('I', 'F')):
        values = np.asarray(image)
        if image.mode == 'F' or values.max() > 65535:
            raise UserError(
                f'{_name(source)} has pixels of {values.dtype}. Convert it to 8 or 16 bits.'
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))  # as OpenCV: the upper bits
    array = np.asarray(image.convert('L' if grey else 'RGB'))
    return Pixels(array[..., None] if grey else array, (height, width))


def _turned(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Returns width and height exchanged if the EXIF orientation exchanges them."""
    return size[::-1] if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5 else size


def _name(source: ImageSource) -> str:
    return str(source) if isinstance(source, (str, Path)) else 'The image'


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise UserError(
            'An image array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, got '
            f'{array.shape} of {array.dtype}.'
        )
    if channels == 1:
        return Image.fromarray(array.reshape(array.shape[:2]))
    return Image.fromarray(np.ascontiguousarray(array[..., 2::-1]))


def resize(
    image: np.ndarray, size: tuple[int, int], interpolation: str, backend: str
) -> np.ndarray:
    """Resizes an image as ``mmcv.imresize`` does.

    Pillow's filters widen when they shrink an image, OpenCV's do not. So the backend that the model
    was trained with is followed: for ``cv2``, OpenCV if it is installed, else the same sums in
    NumPy. These differ from OpenCV by at most one of 255, for less than 0.5% of the pixels.

    Args:
        image: (H, W, C) uint8.
        size: Width and height of the result.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; with Pillow also its other filters.
        backend: ``cv2`` or ``pillow``.

    Raises:
        UserError: If the interpolation needs OpenCV, and it is not installed.
    """
    if image.shape[1::-1] == tuple(size):
        return image
    if backend == 'pillow':
        squeezed = image[..., 0] if image.shape[2] == 1 else image
        found = np.asarray(
            Image.fromarray(squeezed).resize(size, resample=PILLOW_FILTERS[interpolation])
        )
    elif (cv2 := _opencv()) is not None:
        codes = dict(bilinear='LINEAR', bicubic='CUBIC', lanczos='LANCZOS4')
        code = getattr(cv2, f'INTER_{codes.get(interpolation, interpolation.upper())}')
        found = cv2.resize(image, size, interpolation=code)
    elif interpolation in ('nearest', 'bilinear', 'bicubic'):
        found = _resize_as_opencv(image, size, interpolation)
    else:
        raise UserError(
            f'This model resizes images with {interpolation!r} of OpenCV, which is not installed. '
            'Install it with `pip install opencv-python-headless`.'
        )
    return found.reshape(size[1], size[0], image.shape[2])


def _opencv() -> ModuleType | None:
    """OpenCV if it is installed. Threads wait for the import; ``find_spec`` would not."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def _resize_as_opencv(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Computes what OpenCV does for eight bits, in whole numbers for ``bilinear``."""
    (height, width), (new_width, new_height) = image.shape[:2], size
    if interpolation == 'nearest':
        rows = np.arange(new_height) * height // new_height
        columns = np.arange(new_width) * width // new_width
        return image[rows[:, None], columns]
    if interpolation == 'bilinear' and (width, height) == (2 * new_width, 2 * new_height):
        blocks: np.ndarray = image.reshape(new_height, 2, new_width, 2, -1).astype(np.int32)
        return ((blocks.sum((1, 3)) + 2) >> 2).astype(np.uint8)
    columns, column_weights = _taps(width, new_width, interpolation)
    rows, row_weights = _taps(height, new_height, interpolation)
    source: np.ndarray = image.astype(column_weights.dtype)
    lines = sum(
        source[:, column] * weight[:, None]
        for column, weight in zip(columns, column_weights, strict=True)
    )
    pairs = list(zip(rows, row_weights[..., None, None], strict=True))
    if interpolation == 'bilinear':
        lines >>= 4
        total = (sum((lines[row] * weight) >> 16 for row, weight in pairs) + 2) >> 2
    else:
        total = np.rint(sum(lines[row] * weight for row, weight in pairs))
    return total.clip(0, 255).astype(np.uint8)


def _taps(old: int, new: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (K, new) pixels that each new pixel is made of, and their weights.

    Linear weights are whole numbers of 1 / 2048.
    """
    position: np.ndarray = (np.arange(new) + 0.5) * (old / new) - 0.5
    if interpolation == 'bilinear':
        position = position.astype(np.float32)
        first = np.floor(position).astype(int)
        part = np.where((first < 0) | (first >= old - 1), 0, position - first).astype(np.float32)
        index = first.clip(0, old - 1) + np.arange(2)[:, None]
        weights = np.rint(np.stack([1 - part, part]) * 2048).astype(np.int32)
    else:
        first = np.floor(position).astype(int)
        part, sharpness = position - first, -0.75
        index = first + np.arange(-1, 3)[:, None]
        far = part + 1
        inner = [((sharpness + 2) * d - (sharpness + 3)) * d * d + 1 for d in (part, 1 - part)]
        outer = ((sharpness * far - 5 * sharpness) * far + 8 * sharpness) * far - 4 * sharpness
        weights = np.stack([outer, *inner, 1 - outer - inner[0] - inner[1]])
    return index.clip(0, old - 1), weights


def resize_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes an (H, W) mask to another (H, W): each pixel takes the class of the nearest one."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(int)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def resize_maps(
    maps: np.ndarray, shape: tuple[int, int], align_corners: bool = False
) -> np.ndarray:
    """Resizes feature maps bilinearly, as ``torch.nn.functional.interpolate`` does.

    Args:
        maps: (C, H, W) float maps.
        shape: (H, W) of the result.
        align_corners: Whether the outer pixels keep their values. Default: False.
    """
    for axis, size in ((1, shape[0]), (2, shape[1])):
        old = maps.shape[axis]
        if old == size:
            continue
        if align_corners:
            position = np.arange(size) * ((old - 1) / max(size - 1, 1))
        else:
            position = ((np.arange(size) + 0.5) * (old / size) - 0.5).clip(0, old - 1)
        first = np.floor(position).astype(int)
        part = (position - first).astype(np.float32)
        part = part[:, None] if axis == 1 else part
        low: np.ndarray = maps.take(first, axis)
        high: np.ndarray = maps.take((first + 1).clip(max=old - 1), axis)
        maps = low + (high - low) * part
    return maps
