"""Sizes of images as training loads them, and annotations that fit the loaded image."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .geometry import decode_rle, encode_rle, map_points, turn_array, turn_point
from .records import Annotation, Annotations, ImageRecord
from .source import SourceFolder

_EXIF_ORIENTATION = 0x0112
#: Formats whose EXIF orientation OpenCV applies when it loads colour images. It ignores WebP's.
_TURNED_FORMATS = ('JPEG', 'MPO', 'PNG', 'TIFF')


def embedded_image(source: SourceFolder, record: ImageRecord) -> bytes:
    """The image file inside a LabelMe file."""
    return base64.b64decode(source.read_json(record.file)['imageData'])


def _read_size(source: SourceFolder, record: ImageRecord) -> tuple[int, int, int]:
    """Width and height as stored, and the EXIF orientation that loading applies."""
    file: Path | io.BytesIO = source.root / record.path
    if record.embedded:
        file = io.BytesIO(embedded_image(source, record))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Pillow, about odd metadata
        with Image.open(file) as image:
            turned = image.format in _TURNED_FORMATS
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if turned else 1
            return image.width, image.height, orientation if orientation in range(2, 9) else 1


def measure(source: SourceFolder, data: Annotations, images: Iterable[ImageRecord]) -> None:
    """Sets the size of all images, and brings coordinates to pixels of the loaded image.

    Training loads images turned as their EXIF orientation says. If the annotation file states the
    size of the image before the turn, its coordinates are turned, too; if it states the size
    after, or no size, they are taken to be right.

    Args:
        source: The folder.
        data: What was read from it. Images that cannot be opened are removed.
        images: ``data.images``, perhaps with a progress bar.
    """
    kept = []
    for record in images:
        try:
            width, height, record.orientation = _read_size(source, record)
        except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
            reason = 'empty file' if _is_empty(source, record) else str(error).split(' at 0x')[0]
            data.report('left out', 'unreadable image', record.path, reason)
            continue
        stored = (width, height)
        loaded = (height, width) if record.orientation >= 5 else stored
        record.width, record.height = loaded
        stated = record.stated_size or (0, 0)
        coordinates_as_stored = False
        has_places = bool(record.annotations or record.mask)
        if record.orientation != 1 and has_places:
            coordinates_as_stored = stated == stored != loaded
            action, kind = 'note', 'image turned by EXIF: coordinates taken as for the turned image'
            if record.mask:
                kind = 'image turned by EXIF: a mask of its stored size is turned with it'
            elif coordinates_as_stored:
                action, kind = 'changed', 'image turned by EXIF: coordinates turned with it'
            data.report(action, kind, record.path, f'orientation {record.orientation}')
        elif 0 not in stated and stated not in (stored, loaded):
            detail = f'{stated[0]} x {stated[1]} stated, {width} x {height} is right'
            data.report('note', 'another image size than stated', record.path, detail)
        _fit_annotations(data, record, stored, coordinates_as_stored)
        kept.append(record)
    data.images = kept


def _is_empty(source: SourceFolder, record: ImageRecord) -> bool:
    path = source.root / record.path
    return path.is_file() and path.stat().st_size == 0


def _fit_annotations(
    data: Annotations, record: ImageRecord, stored: tuple[int, int], turn: bool
) -> None:
    change = turn_point(record.orientation, *stored) if turn else None
    kept = []
    for annotation in record.annotations:
        if record.normalised:
            width, height = record.width, record.height
            map_points(annotation, partial(_scale, width, height))
        elif change is not None:
            map_points(annotation, change)
        if annotation.rle is None or _fit_rle(annotation, record, stored):
            kept.append(annotation)
            continue
        detail = f'{annotation.label}: {annotation.rle["size"][::-1]} instead of '
        detail += f'{[record.width, record.height]} (width, height)'
        where = f'{record.file}:{annotation.line}'
        data.report('left out', 'mask of another size than its image', where, detail)
    record.annotations = kept
    record.normalised = False


def _scale(width: int, height: int, x: float, y: float) -> tuple[float, float]:
    return x * width, y * height


def _fit_rle(annotation: Annotation, record: ImageRecord, stored: tuple[int, int]) -> bool:
    """Turns run lengths where needed; returns whether they have the size of the image."""
    assert annotation.rle is not None
    width, height = annotation.rle['size'][::-1]
    if record.orientation >= 5 and (width, height) == stored != (record.width, record.height):
        try:
            annotation.rle = encode_rle(turn_array(decode_rle(annotation.rle), record.orientation))
        except (TypeError, ValueError):
            return False
        return True
    return (width, height) == (record.width, record.height)


def load_mask(source: SourceFolder, record: ImageRecord, as_colours: bool) -> np.ndarray:
    """Reads a mask, turned with its image where it has the size before the turn.

    Args:
        source: The folder.
        record: A measured image with a mask.
        as_colours: Whether to read (H, W, 3) uint8 colours instead of (H, W) values.

    Returns:
        An array with the size of the mask, which may be another one than that of the image. A
        mask of colours is (H, W, 3), also if values were asked for.
    """
    assert record.mask is not None
    with Image.open(source.root / record.mask) as image:
        if as_colours:
            pixels = np.asarray(image.convert('RGB'))
        elif image.mode in ('P', 'L', '1', 'I', 'I;16'):
            pixels = np.asarray(image).astype(np.int32)
        else:
            pixels = np.asarray(image.convert('RGB'))
            if (pixels == pixels[..., :1]).all():  # values stored three times
                pixels = pixels[..., 0].astype(np.int32)
    height, width = pixels.shape[:2]
    turned = record.orientation >= 5 and (height, width) == (record.width, record.height)
    if not turned or height == width:
        return pixels
    if pixels.ndim == 2:
        return turn_array(pixels, record.orientation)
    return np.stack([turn_array(c, record.orientation) for c in np.moveaxis(pixels, 2, 0)], 2)
