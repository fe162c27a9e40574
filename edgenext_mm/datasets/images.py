"""Images from wherever a user has them, read as the config's loading step reads its data set."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Union

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image, ImageOps

from ..errors import UserError
from .checks.image_files import IMAGE_EXTENSIONS, file_problem

ImageSource = Union[str, Path, np.ndarray, Image.Image]

#: How many times longer than wide an image may be, or wider than long. Beyond, resizing makes its
#: sides vanish, or its area enormous.
MAX_ELONGATION = 100


def is_single(source: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether a source is one image, rather than a folder or a sequence of sources."""
    return isinstance(source, (str, Path, np.ndarray, Image.Image)) and not _is_folder(source)


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, Path)) and os.path.isdir(source)


def list_images(sources: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """All images of one source or many.

    Folders are searched with their sub-folders, in order, for names that end with one of
    :data:`~edgenext_mm.datasets.checks.image_files.IMAGE_EXTENSIONS` in upper or lower case. As in
    training, hidden files are left out, such as the ``._NAME.jpg`` of macOS; so are hidden folders.

    Returns:
        Files as paths, the rest as given. A source that is not there, and a folder without images
        or that cannot be opened, are in the list as well: reading them fails, which costs the
        other images nothing.

    Raises:
        UserError: If none of the sources is an image or a folder of images.
    """
    if isinstance(sources, (str, bytes, np.ndarray)) or not isinstance(sources, Iterable):
        sources = [sources]
    images: list[ImageSource] = []
    problems: list[UserError] = []
    for source in sources:
        found = list(_images_in(Path(str(source)))) if _is_folder(source) else []
        if not found and (problem := _source_problem(source)):
            problems.append(problem)
        if isinstance(source, str) and not _is_url(source):
            source = Path(source)
        images.extend(found or [source])
    if not images:
        raise UserError('No image was given. Give files, folders, URLs or arrays.')
    if len(problems) == len(images):
        raise problems[0]
    return images


def _source_problem(source: object) -> UserError | None:
    """Why a source is not an image, as far as can be seen without opening it."""
    if isinstance(source, (np.ndarray, Image.Image)) or _is_url(source):
        return None
    if _is_folder(source):
        return UserError(
            f'The folder {source} holds no image, or cannot be opened. Names of images end with '
            f'{", ".join(IMAGE_EXTENSIONS)}.'
        )
    if isinstance(source, (str, Path)) and os.path.isfile(source):
        return None
    if isinstance(source, (str, Path)) and os.path.islink(source):
        return UserError(f'{source} is a link to {os.readlink(source)}, which does not exist.')
    return UserError(
        f'There is no image {str(source)[:200]!r}. Give a file, a folder, a URL, a Pillow '
        'image or an array.'
    )


def _images_in(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Images in a folder and its sub-folders; a folder that cannot be opened counts as one."""
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith('.'):
            continue
        if entry.is_dir():
            yield from _images_in(Path(entry.path), above | {real})
        elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
            yield Path(entry.path)


class ImageReader:
    """Reads images as a loading step of OpenMMLab's pipelines does.

    The step itself reads files, so that inference sees the pixels of training and testing. URLs are
    fetched and then read as files. Images in memory are brought to the form in which the step
    leaves those of files, by its ``color_type``, ``color`` unless it says otherwise:

    - ``color``: (H, W, 3) uint8 in the order blue, green, red; grey is repeated, transparency
      dropped, and of 16 bits the upper eight count;
    - ``grayscale``: (H, W) uint8; colours may differ by one from what a file's decoder makes;
    - ``unchanged``: as given, in depth and number of channels. Colours of Pillow images come in the
      order blue, green, red, alpha.

    Pillow images are turned upright as their EXIF data says where the step does so to files: unless
    ``color_type`` is ``unchanged`` or ends with ``ignore_orientation``.

    tifffile heeds no ``color_type``: it reads all as stored.

    Args:
        *steps: Steps from ``img_path`` to ``img``, the last of which loads the image. Default:
            mmcv's ``LoadImageFromFile()``.
    """

    def __init__(self, *steps: Callable[[dict], dict | None]) -> None:
        self.steps = steps or (LoadImageFromFile(),)
        self.loader = self.steps[-1]
        as_stored = getattr(self.loader, 'imdecode_backend', '') == 'tifffile'
        color_type = getattr(self.loader, 'color_type', 'unchanged')
        self.color_type: str = 'unchanged' if as_stored else color_type

    def __call__(self, source: ImageSource) -> dict[str, Any]:
        """Reads one image.

        Args:
            source: A file, a URL, a Pillow image, or an (H, W) or (H, W, C) array, its channels in
                the order blue, green, red, alpha. Of 1, 3 or 4 channels of uint8 or uint16 unless
                ``color_type`` is ``unchanged``.

        Returns:
            What the step leaves to the next one: ``img``, ``img_shape``, ``ori_shape`` and
            ``img_path``, empty for images in memory.

        Raises:
            UserError: If it cannot be read as an image, or is too elongated to be resized.
        """
        if problem := _source_problem(source):
            raise problem
        if isinstance(source, (np.ndarray, Image.Image)):
            image = self._from_memory(source)
            results = dict(img=image, img_path='', img_shape=image.shape[:2])
            results['ori_shape'] = image.shape[:2]
        else:
            with _as_file(source) as path:
                results = self._from_file(path, source)
        height, width = results.get('img_shape', results['img'].shape)[:2]
        if max(height, width) > MAX_ELONGATION * min(height, width):
            raise UserError(
                f'{results["img_path"] or "An image"} is {width} pixels wide and {height} high; '
                f'the longer side may be up to {MAX_ELONGATION} times the shorter. Cut it up.'
            )
        return results

    def _from_file(self, path: str, source: ImageSource) -> dict[str, Any]:
        _check_file(path, source)
        try:
            results: Any = dict(img_path=path)
            for step in self.steps:
                results = step(results)
                if results is None:
                    raise ValueError('it gives nothing')
        except Exception as error:  # what decoders raise at damaged files is of any kind
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
        unchanged = self.color_type == 'unchanged'
        if isinstance(source, Image.Image):
            if not unchanged and not self.color_type.endswith('ignore_orientation'):
                source = ImageOps.exif_transpose(source)
            source = _pillow_to_array(source)
        image = np.asarray(source)  # of matrices and masked arrays, the plain one
        if image.dtype.kind not in 'uif' or image.ndim not in (2, 3) or not image.size:
            raise UserError(
                f'An image array is (H, W) or (H, W, C) of numbers, got {image.shape} of '
                f'{image.dtype}.'
            )
        image = image.astype(image.dtype.newbyteorder('='), copy=False)
        if not unchanged:
            image = _to_eight_bits(image)
            grey = self.color_type.startswith('grayscale')
            image = _to_grey(image) if grey else _to_colour(image)
        dtype = np.float32 if getattr(self.loader, 'to_float32', False) else image.dtype
        return np.array(image, dtype, order='C')  # a copy, which steps may write to


def read_image(source: ImageSource) -> np.ndarray:
    """One image as mmcv's ``LoadImageFromFile()`` reads it: upright, in eight-bit colour.

    Args:
        source: See :class:`ImageReader`.

    Returns:
        (H, W, 3) uint8, blue-green-red.

    Raises:
        UserError: If it cannot be read as an image.
    """
    return ImageReader()(source)['img']


def _is_url(source: object) -> bool:
    return isinstance(source, str) and '://' in source


@contextlib.contextmanager
def _as_file(source: str | Path) -> Iterator[str]:
    """The path of a file, or of a copy of what a URL leads to."""
    if not _is_url(source):
        yield str(source)
        return
    with tempfile.NamedTemporaryFile(suffix=_ending(str(source))) as copy:
        try:
            copy.write(get(str(source)))
        except Exception as error:  # each backend raises its own
            raise UserError(f'The image {source} cannot be read: {error}') from error
        copy.flush()
        yield copy.name


def _ending(url: str) -> str:
    """The ending of an image's URL, for steps that heed it."""
    path = url.partition('?')[0].lower()
    return next((ending for ending in IMAGE_EXTENSIONS if path.endswith(ending)), '')


def _check_file(path: str, source: ImageSource) -> None:
    """Refuses files that are cut short, as training does, and those that decoders must not see."""
    try:
        problem = file_problem(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{source} cannot be read: {error}') from error
    if problem is not None:
        raise UserError(f'{source} {problem.detail} Give a complete image file.')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:  # reads no more than the header
                kind = image.format
    except Image.DecompressionBombError as error:
        raise UserError(
            f'{source} is too large: {error} Cut it up, or allow it with '
            '`PIL.Image.MAX_IMAGE_PIXELS = None`.'
        ) from error
    except Exception:  # a format that Pillow does not know, or a damaged one: the decoder says
        return
    if kind == 'EPS':  # Pillow would run what the file says in Ghostscript
        raise UserError(f'{source} is a program (EPS), not an image. Give a PNG or JPEG of it.')


def _hint(path: str) -> str:
    """What else could read a file that a loading step cannot."""
    try:
        with Image.open(path) as image:
            kind, mode = image.format, image.mode
            image.load()
    except Exception:  # what decoders raise at damaged files is of any kind
        return 'Give a complete PNG, JPEG, WebP, TIFF or another image file.'
    return (
        f'Pillow reads it as {kind} of mode {mode}: convert it to a PNG of 8 bits, or train and '
        "test with other settings of that step: color_type='unchanged' for floats, "
        "imdecode_backend='tifffile' for TIFF of many channels, imdecode_backend='pillow' for the "
        'rest.'
    )


def _pillow_to_array(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, C) pixels as OpenCV decodes a file of them: blue, green, red, alpha."""
    if image.mode in ('L', 'F'):
        return np.asarray(image)
    if image.mode.startswith('I'):  # 16 bits, which convert() would clip
        return np.asarray(image).clip(0, 65535).astype(np.uint16)
    if image.mode == '1':
        return np.asarray(image.convert('L'))
    alpha = image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info
    array = np.asarray(image.convert('RGBA' if alpha else 'RGB'))
    return array[..., [2, 1, 0, 3][: array.shape[2]]]


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


def _to_colour(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


def _to_grey(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
