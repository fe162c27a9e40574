"""Masks of segmentation: from values or colours, or drawn from outlines, to class indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ..palette import IGNORED
from ..voc_masks import draw_mask
from .measuring import load_mask
from .records import Annotations, ImageRecord, MaskLegend
from .source import SourceFolder

BACKGROUND = 'background'
_BACKGROUND_NAMES = ('background', '_background_', '__background__')
_MAX_COLOURS = 256  #: more distinct colours are a photograph, not a mask


@dataclass
class MaskReader:
    """Turns masks of the source into class indices, with 255 for ignored pixels.

    Args:
        index: Class index by pixel value or by colour packed into an int.
        void: Ignored values or packed colours.
        as_colours: Whether masks are read as colours.
    """

    index: dict[int, int]
    void: set[int] = field(default_factory=set)
    as_colours: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 indices of (H, W) values or (H, W, 3) colours."""
        values, inverse = np.unique(
            packed(pixels) if self.as_colours else pixels, return_inverse=True
        )
        found = [self.index.get(int(value), IGNORED) for value in values]
        return np.array(found, np.uint8)[inverse].reshape(pixels.shape[:2])


def packed(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) colours as one int32 each."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _pack(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _name(value: int, as_colours: bool) -> str:
    return (
        f'colour ({value >> 16}, {value >> 8 & 255}, {value & 255})' if as_colours else str(value)
    )


def scan_masks(
    source: SourceFolder,
    data: Annotations,
    classes: Sequence[str] | None,
    void: Sequence[int],
    images: Iterable[ImageRecord],
) -> MaskReader:
    """Reads all masks once: finds the classes, and reports pixels and masks that do not fit.

    Args:
        source: The folder.
        data: Changed in place: images whose masks do not fit are removed, classes are set, and
            each image's ``labels`` become the classes in its mask.
        classes: Names in the order of the pixel values if no table names them; else the classes to
            keep. None: all, named ``class_VALUE`` if no table names them.
        void: Pixel values to ignore.
        images: ``data.images``, perhaps with a progress bar.

    Raises:
        UserError: If masks are colours and no table says what they mean.
    """
    legend = data.legend or MaskLegend()
    if legend.is_colour and data.images and _has_positions(source, data.images[0], legend):
        legend = legend.by_position()
    as_colours = legend.is_colour
    kept: list[ImageRecord] = []
    present: list[dict[int, int]] = []
    for record in images:
        own = _count_values(source, data, record, as_colours)
        if own is not None:
            kept.append(record)
            present.append(own)
    values = sorted({value for own in present for value in own})
    data.images = kept
    reader = _make_reader(data, legend, values, classes, set(void))
    for record, own in zip(kept, present, strict=True):
        for value, number in own.items():
            if value not in reader.index and value not in reader.void:
                detail = f'{_name(value, as_colours)}: {number:,} pixels are ignored'
                kind = 'colour that is not in the table' if as_colours else 'value without a class'
                data.report('changed', kind, record.file, detail)
        labels = {reader.index[value] for value in own if value in reader.index}
        record.labels = [data.classes[label] for label in sorted(labels)]
    used = {name for record in kept for name in record.labels}
    for name in data.classes:
        if name not in used:
            data.report('note', 'class without pixels', '.', name)
    return reader


def _has_positions(source: SourceFolder, record: ImageRecord, legend: MaskLegend) -> bool:
    """Whether a mask is grey and holds positions in the table instead of its colours."""
    try:
        with Image.open(source.root / str(record.mask)) as image:
            values = set(np.unique(np.asarray(image)).tolist()) if image.mode == 'L' else set()
    except (OSError, ValueError):
        return False
    are_colours = all((value, value, value) in legend.entries for value in values)
    return not are_colours and values <= {*range(len(legend.entries)), IGNORED}


def _count_values(
    source: SourceFolder, data: Annotations, record: ImageRecord, as_colours: bool
) -> dict[int, int] | None:
    """Number of pixels per value or packed colour; None, and a report, if a mask cannot be used."""
    try:
        pixels = load_mask(source, record, as_colours)
    except (OSError, ValueError) as error:
        data.report('left out', 'unreadable mask', record.file, str(error).split(' at 0x')[0])
        return None
    size = (pixels.shape[1], pixels.shape[0])
    if size != (record.width, record.height):
        detail = f'{size[0]} x {size[1]} instead of {record.width} x {record.height}'
        data.report('left out', 'mask of another size than its image', record.file, detail)
        return None
    if pixels.ndim == 3 and not as_colours:
        raise UserError(_no_table(source, record, pixels))
    values, counts = np.unique(packed(pixels) if as_colours else pixels, return_counts=True)
    if len(values) > _MAX_COLOURS:
        detail = f'{len(values)} different {"colours" if as_colours else "values"}'
        data.report('left out', 'a photograph, not a mask', record.file, detail)
        return None
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _no_table(source: SourceFolder, record: ImageRecord, pixels: np.ndarray) -> str:
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    shown = ', '.join(str(tuple(int(v) for v in colour)) for colour in colours[:8])
    return (
        f'The mask {source.root / str(record.mask)} has {len(colours)} colours ({shown}'
        f'{", ..." if len(colours) > 8 else ""}), and no table says which classes they are. Give '
        'one with --colors FILE: CSV with the columns name, r, g, b.'
    )


def _make_reader(
    data: Annotations,
    legend: MaskLegend,
    values: list[int],
    classes: Sequence[str] | None,
    void: set[int],
) -> MaskReader:
    """Numbers the classes without gaps, in the order of the table or of the values."""
    as_colours = legend.is_colour
    names: dict[int, str] = {
        _pack(key) if as_colours else key: name for key, name in legend.names.items()
    }
    ignored = {_pack(key) if isinstance(key, tuple) else key for key in legend.void} | void
    if not as_colours:
        ignored |= _usual_void(data, values, names)
    if not names:
        names = _name_values([v for v in values if v not in ignored], classes)
    elif classes:
        for name in classes:
            if name not in names.values():
                raise UserError(
                    f'--classes names {name!r}, but the table has {", ".join(names.values())}.'
                )
        left_out = {value: name for value, name in names.items() if name not in classes}
        for name in left_out.values():
            data.report('left out', 'class that is not in --classes: ignored', '.', name)
        ignored |= set(left_out)
    names = {value: name for value, name in names.items() if value not in ignored}
    data.classes = list(classes or dict.fromkeys(names.values()))
    if len(data.classes) > IGNORED:
        raise UserError(f'{len(data.classes)} classes; masks can have {IGNORED} at most.')
    index = {value: data.classes.index(name) for value, name in names.items()}
    if not as_colours and any(value != i for value, i in index.items()):
        detail = ', '.join(f'{value} to {i}' for value, i in index.items() if value != i)
        data.report('changed', 'pixel values numbered anew', '.', detail)
    return MaskReader(index, ignored, as_colours)


def _usual_void(data: Annotations, values: list[int], names: dict[int, str]) -> set[int]:
    """255, unless it has a name or is the foreground of black and white masks."""
    if IGNORED not in values or IGNORED in names:
        return set()
    if values == [0, IGNORED]:
        detail = 'if it is to be ignored, use --void 255'
        data.report('note', 'masks of 0 and 255: 255 is a class', '.', detail)
        return set()
    return {IGNORED}


def _name_values(values: list[int], classes: Sequence[str] | None) -> dict[int, str]:
    if classes is None:
        return {value: f'class_{value}' for value in values}
    if values == [0, IGNORED] and len(classes) == 2:
        return dict(zip(values, classes, strict=True))
    return dict(enumerate(classes))


def outline_classes(data: Annotations) -> None:
    """Puts the background first among the classes that masks are drawn with."""
    named = [name for name in data.classes if name.lower() in _BACKGROUND_NAMES]
    first = named[0] if named else BACKGROUND
    data.classes = [first, *(name for name in data.classes if name != first)]


def draw_outlines(record: ImageRecord, classes: Sequence[str]) -> np.ndarray:
    """(height, width) uint8 mask of an image's outlines; the smaller of two objects is in front."""
    annotations: list[dict[str, Any]] = [
        dict(
            category_id=0 if annotation.crowd else classes.index(annotation.label),
            segmentation=annotation.rle or annotation.polygons,
            iscrowd=annotation.crowd,
        )
        for annotation in record.annotations
    ]
    return draw_mask(annotations, record.height, record.width, {i: i for i in range(len(classes))})
