"""Reads images from files, URLs, Pillow images and arrays as a config's loading step does."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image, ImageOps

from ..errors import UserError
from ..runtime.sources import IMAGE_EXTENSIONS, ImageSource, is_url, source_problem
from .checks.image_files import decoding_settings, file_problem
from .checks.samples import MAX_RATIO


class ImageReader:
    """Reads images as a loading step of OpenMMLab's pipelines does.

    Files are read by the step itself, so that inference sees the pixels of training and testing.
    URLs are downloaded and read as files. Images in memory get the form that the step gives to
    files, which depends on its ``color_type`` (default: ``color``):

    - ``color``: (H, W, 3) uint8, blue-green-red. Grey is repeated, transparency is dropped, and the
      upper 8 of 16 bits are kept.
    - ``grayscale``: (H, W) uint8. Pixels of colour images may differ by one from a file's.
    - ``unchanged``: all bits and channels. Pillow images become blue-green-red(-alpha).

    Unless ``color_type`` is ``unchanged`` or ends with ``ignore_orientation``, Pillow images are
    rotated by their EXIF orientation.

    With ``imdecode_backend='pillow'``, images in memory get exactly the pixels that mmcv's Pillow
    backend reads from a lossless file of them. With ``imdecode_backend='tifffile'``, everything is
    read unchanged, since tifffile ignores ``color_type``.

    Args:
        *steps: Steps from ``img_path`` to ``img``, the last of which loads the image. Default:
            mmcv's ``LoadImageFromFile()``.
    """

    def __init__(self, *steps: Callable[[dict], dict | None]) -> None:
        self.steps = steps or (LoadImageFromFile(),)
        self.loader = self.steps[-1]
        self.decoder, color_type = decoding_settings(self.loader)
        self.color_type = 'unchanged' if self.decoder == 'tifffile' else color_type

    def __call__(self, source: ImageSource) -> dict[str, Any]:
        """Reads one image.

        Args:
            source: A file, a URL, a Pillow image, or an (H, W) or (H, W, C) array with channels in
                the order blue, green, red, alpha. Unless ``color_type`` is ``unchanged``, arrays
                have 1, 3 or 4 channels of uint8 or uint16.

        Returns:
            The results dict of the step: ``img``, ``img_shape``, ``ori_shape`` and ``img_path``,
            which is empty for images in memory.

        Raises:
            UserError: If it cannot be read as an image, or is too elongated to be resized.
        """
        if problem := source_problem(source):
            raise problem
        if isinstance(source, (np.ndarray, Image.Image)):
            image = self._from_memory(source)
            results = dict(img=image, img_path='', img_shape=image.shape[:2])
            results['ori_shape'] = image.shape[:2]
        else:
            with _as_file(source) as path:
                results = self._from_file(path, source)
        height, width = results.get('img_shape', results['img'].shape)[:2]
        if max(height, width) > MAX_RATIO * min(height, width):
            raise UserError(
                f'{results["img_path"] or "An image"} is {width} pixels wide and {height} high; '
                f'the longer side may be up to {MAX_RATIO} times the shorter. Cut it up.'
            )
        return results

    def _from_file(self, path: str, source: ImageSource) -> dict[str, Any]:
        _check_file(path, source, self.decoder, self.color_type)
        try:
            results: Any = dict(img_path=path)
            for step in self.steps:
                results = step(results)
                if results is None:
                    raise ValueError('it returned None')
        except Exception as error:  # decoders raise anything
            message = ' '.join(str(error).split()) or type(error).__name__
            settings = {
                name: getattr(self.loader, name)
                for name in ('color_type', 'imdecode_backend')
                if hasattr(self.loader, name)
            }
            raise UserError(
                f'{source} is not an image that the loading step of the config can read, '
                f'{type(self.loader).__name__} with {settings}: {message[:300]}. {_hint(path)}'
            ) from error
        results['img_path'] = str(source)
        return results

    def _from_memory(self, source: np.ndarray | Image.Image) -> np.ndarray:
        converts, in_pillow = self.color_type != 'unchanged', isinstance(source, Image.Image)
        if in_pillow and converts and not self.color_type.endswith('ignore_orientation'):
            source = ImageOps.exif_transpose(source)
        image = np.asarray(source)  # also of matrices and masked arrays
        is_number = in_pillow or image.dtype.kind in 'uif'
        if not is_number or image.ndim not in (2, 3) or not image.size:
            raise UserError(
                f'An image array is (H, W) or (H, W, C) of numbers, got {image.shape} of '
                f'{image.dtype}.'
            )
        image = image.astype(image.dtype.newbyteorder('='), copy=False)
        if self.decoder == 'pillow' and (in_pillow or converts):
            image = self._as_pillow_reads(source if in_pillow else _array_to_pillow(image))
        else:
            image = _pillow_to_array(source) if in_pillow else image
            image = self._as_opencv_reads(image) if converts else image
        dtype = np.float32 if getattr(self.loader, 'to_float32', False) else image.dtype
        return np.array(image, dtype, order='C')  # a copy, which steps may write to

    def _as_pillow_reads(self, image: Image.Image) -> np.ndarray:
        """Lets mmcv decode a lossless file of an image."""
        buffer = io.BytesIO()
        try:
            image.save(buffer, 'TIFF')
            return mmcv.imfrombytes(buffer.getvalue(), flag=self.color_type, backend='pillow')
        except (OSError, ValueError) as error:
            raise UserError(
                f'A Pillow image of mode {image.mode} cannot be read as the config reads files: '
                f"{error}. Convert it with `image.convert('RGB')`."
            ) from error

    def _as_opencv_reads(self, image: np.ndarray) -> np.ndarray:
        """Converts an array to the colour type as OpenCV does when it decodes a file."""
        image = _to_eight_bits(image)
        is_grey = image.ndim == 2 or image.shape[2] == 1
        if self.color_type.startswith('grayscale'):
            if is_grey:
                return image.reshape(image.shape[:2])
            return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
        if is_grey:
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        return image[..., :3]


def read_image(source: ImageSource) -> np.ndarray:
    """Reads one image as mmcv's ``LoadImageFromFile()`` does: upright, in eight-bit colour.

    Args:
        source: A file, a URL, a Pillow image or an array; see :class:`ImageReader`.

    Returns:
        (H, W, 3) uint8, blue-green-red.

    Raises:
        UserError: If it cannot be read as an image.
    """
    return ImageReader()(source)['img']


@contextlib.contextmanager
def _as_file(source: str | Path) -> Iterator[str]:
    """Gives the path of a file, or of a temporary copy of a URL."""
    if not is_url(source):
        yield str(source)
        return
    path = str(source).partition('?')[0].lower()
    suffix = next((suffix for suffix in IMAGE_EXTENSIONS if path.endswith(suffix)), '')
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        try:
            copy.write(get(str(source)))
        except Exception as error:  # each backend raises its own
            raise UserError(f'The image {source} cannot be read: {error}') from error
        copy.flush()
        yield copy.name


def _check_file(path: str, source: ImageSource, decoder: str, color_type: str) -> None:
    """Refuses files that training refuses too, and those that no decoder should open."""
    try:
        problem = file_problem(Path(path).read_bytes(), decoder, color_type)
    except OSError as error:
        raise UserError(f'{source} cannot be read: {error}') from error
    if problem is not None:
        raise UserError(f'{source} {problem.detail}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:  # reads the header only
                kind = image.format
    except Image.DecompressionBombError as error:
        raise UserError(
            f'{source} is too large: {error} Cut it up, or allow it with '
            '`PIL.Image.MAX_IMAGE_PIXELS = None`.'
        ) from error
    except Exception:  # a format that Pillow does not know, or a damaged file: see the decoder
        return
    if kind == 'EPS':  # Pillow would run it in Ghostscript
        raise UserError(f'{source} is a program (EPS), not an image. Give a PNG or JPEG of it.')


def _hint(path: str) -> str:
    """Suggests how to read a file that a loading step cannot read."""
    try:
        with Image.open(path) as image:
            kind, mode = image.format, image.mode
            image.load()
    except Exception:  # decoders raise anything
        return 'Give a complete PNG, JPEG, WebP, TIFF or another image file.'
    return (
        f'Pillow reads it as {kind} of mode {mode}: convert it to an 8-bit PNG, or train and test '
        "with other settings of that step: color_type='unchanged' for floats, "
        "imdecode_backend='tifffile' for TIFF with many channels, else imdecode_backend='pillow'."
    )


def _pillow_to_array(image: Image.Image) -> np.ndarray:
    """Converts an image to (H, W) grey or (H, W, C) blue-green-red(-alpha), as OpenCV does."""
    if image.mode in ('L', 'F'):
        return np.asarray(image)
    if image.mode.startswith('I'):  # 16 bits, which convert() would clip
        return np.asarray(image).clip(0, 65535).astype(np.uint16)
    if image.mode == '1':
        return np.asarray(image.convert('L'))
    alpha = image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info
    array = np.asarray(image.convert('RGBA' if alpha else 'RGB'))
    return array[..., [2, 1, 0, 3][: array.shape[2]]]


def _array_to_pillow(array: np.ndarray) -> Image.Image:
    """Converts an (H, W) or blue-green-red(-alpha) array to what Pillow reads from a PNG of it."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2 and array.dtype == np.uint16:
        return Image.fromarray(array)
    array = _to_eight_bits(array)
    if array.ndim == 3:
        array = np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])
    return Image.fromarray(array)


def _to_eight_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or channels not in (1, 3, 4):
        raise UserError(
            'An image array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16, '
            f'got {image.shape} of {image.dtype}. Others need a model that is trained with '
            "color_type='unchanged' in the loading step."
        )
    return image
