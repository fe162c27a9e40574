"""Removes what cannot be trained on from the annotations, and reports each case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from ...errors import UserError
from .geometry import bounding_box, outline, polygon_area, to_box, to_corners
from .records import IGNORE, Annotation, Annotations, ImageRecord

_LeaveOut = Callable[[str, str], bool]
_TOLERANCE = 0.01  #: pixels that a box may reach beyond the image unchanged: rounding of the source


def clean(
    data: Annotations, task: str, classes: Sequence[str] | None, images: Iterable[ImageRecord]
) -> None:
    """Brings all annotations to what the task can be trained on.

    Args:
        data: Changed in place; images are measured.
        task: One of :data:`~edgenext_mm.datasets.custom.layout.TASKS`.
        classes: Classes to keep, in this order. None: all.
        images: ``data.images``, perhaps with a progress bar.

    Raises:
        UserError: If the name of a class to keep seems to be misspelt.
    """
    if data.legend is not None:
        return  # the masks' pixels are checked by masks.py
    _check_classes(data, classes or ())
    kept = []
    for record in images:
        if task == 'classification':
            if _clean_labels(data, record, classes):
                kept.append(record)
            continue
        record.annotations = [
            a for a in record.annotations if _clean_object(data, record, a, task, classes)
        ]
        _report_copies(data, record)
        kept.append(record)
    data.images = kept
    used = dict.fromkeys(
        name
        for record in kept
        for name in (record.labels if task == 'classification' else _labels(record))
    )
    found = [name for name in dict.fromkeys([*data.classes, *used]) if name != IGNORE]
    data.classes = list(classes or found)
    for name in data.classes:
        if name not in used:
            data.report('note', 'class without objects', '.', name)


def _check_classes(data: Annotations, classes: Sequence[str]) -> None:
    """Refuses a class that is not in the source if it looks like one that would be left out."""
    labels = (name for r in data.images for name in (*r.labels, *_labels(r)))
    known = dict.fromkeys([*data.classes, *(name for name in labels if name != IGNORE)])
    others = {name.lower(): name for name in known if name not in classes}
    for name in classes:
        if name not in known and (near := get_close_matches(name.lower(), others, 1)):
            raise UserError(
                f'--classes names {name!r}, which is not in the source. Is {others[near[0]]!r} '
                'meant?'
            )


def _report_copies(data: Annotations, record: ImageRecord) -> None:
    """Reports objects that have the class and all coordinates of another one of the image."""
    seen: set[str] = set()
    for a in record.annotations:
        key = repr((a.label, a.box, a.polygons, a.rle, a.corners, a.crowd))
        if key in seen:
            data.report('note', 'second copy of an object', _where(record, a), a.label)
        seen.add(key)


def _where(record: ImageRecord, annotation: Annotation) -> str:
    file = record.file or record.path
    return file if annotation.line is None else f'{file}:{annotation.line}'


def _labels(record: ImageRecord) -> list[str]:
    return [annotation.label for annotation in record.annotations]


def _clean_labels(data: Annotations, record: ImageRecord, classes: Sequence[str] | None) -> bool:
    """Whether an image has one class."""
    labels = list(dict.fromkeys(record.labels))
    if classes:
        labels = [label for label in labels if label in classes]
    if len(labels) == 1:
        record.labels = labels
        return True
    if labels:
        detail = ', '.join(labels)
        data.report('left out', 'image with several classes', record.path, detail)
    else:
        data.report('left out', 'image without a class', record.path, ', '.join(record.labels))
    return False


def _clean_object(
    data: Annotations,
    record: ImageRecord,
    annotation: Annotation,
    task: str,
    classes: Sequence[str] | None,
) -> bool:
    """Whether to keep an object; its box is clipped to the image."""
    where = _where(record, annotation)

    def leave_out(kind: str, detail: str = '') -> bool:
        data.report('left out', kind, where, f'{annotation.label} {detail}'.strip())
        return False

    if reason := _unwanted_class(annotation, task, classes):
        return leave_out(reason)
    annotation.crowd |= annotation.label == IGNORE  # drawn as ignored pixels
    values = [*(annotation.box or ()), *outline(annotation)]
    if not values and annotation.rle is None:
        return leave_out('object without coordinates')
    if not all(math.isfinite(value) for value in values):
        return leave_out('coordinates that are not finite', str(_rounded(values)))
    if removed := _remove_flat_polygons(annotation):
        if annotation.box is None and annotation.rle is None and not annotation.polygons:
            return leave_out('polygon without an area', str(removed[0]))
        detail = f'{annotation.label} {removed}'
        data.report('changed', 'parts of an outline without an area removed', where, detail)
    if task in ('instance-segmentation', 'segmentation') and not _has_outline(annotation):
        return leave_out('object with a box but no outline')
    if task == 'rotated-detection':
        return _clean_corners(record, annotation, leave_out)
    return _clip_box(data, record, annotation, where, leave_out)


def _unwanted_class(annotation: Annotation, task: str, classes: Sequence[str] | None) -> str:
    """Why the class of an object is not trained on; '' if it is."""
    if annotation.label == IGNORE:
        return '' if task == 'segmentation' else 'region to ignore'
    if classes and annotation.label not in classes:
        return 'object of a class that is not in --classes'
    return ''


def _remove_flat_polygons(annotation: Annotation) -> list[list[float]]:
    """Removes polygons without an area from an object, and returns them."""
    polygons = annotation.polygons
    annotation.polygons = [p for p in polygons if len(p) >= 6 and polygon_area(p) > 0]
    return [p for p in polygons if p not in annotation.polygons]


def _has_outline(annotation: Annotation) -> bool:
    """Whether an object has an outline; corners of a rotated box become one."""
    if not annotation.polygons and annotation.corners is not None:
        annotation.polygons = [list(annotation.corners)]
    return bool(annotation.polygons) or annotation.rle is not None


def _clean_corners(record: ImageRecord, annotation: Annotation, leave_out: _LeaveOut) -> bool:
    """Whether a rotated box has an area and touches the image; corners may lie outside."""
    if not outline(annotation) and annotation.rle is None and min(to_box(annotation)[2:]) <= 0:
        return leave_out('box without an area', str(annotation.box))
    annotation.corners = corners = to_corners(annotation)
    if polygon_area(corners) <= 0:
        return leave_out('box without an area', str(corners))
    left, top, width, height = bounding_box(corners)
    if left >= record.width or top >= record.height or left + width <= 0 or top + height <= 0:
        return leave_out('box outside the image', str(corners))
    return True


def _clip_box(
    data: Annotations,
    record: ImageRecord,
    annotation: Annotation,
    where: str,
    leave_out: _LeaveOut,
) -> bool:
    box = to_box(annotation)
    left, top, width, height = box
    if width <= 0 or height <= 0:
        return leave_out('box without an area', str(box))
    right, bottom = left + width, top + height
    if left >= record.width or top >= record.height or right <= 0 or bottom <= 0:
        return leave_out('box outside the image', str(box))
    excess = max(-left, -top, right - record.width, bottom - record.height)
    if excess > _TOLERANCE:
        left, top = max(left, 0.0), max(top, 0.0)
        right, bottom = min(right, float(record.width)), min(bottom, float(record.height))
        clipped = (left, top, right - left, bottom - top)
        detail = f'{annotation.label}: {_rounded(box)} to {_rounded(clipped)}'
        data.report('changed', 'box clipped to the image', where, detail)
        if not annotation.polygons and annotation.rle is None:
            annotation.area = None
        box = clipped
    annotation.box = box
    if min(box[2:]) < 1:
        detail = f'{annotation.label}: {_rounded(box)}'
        data.report(
            'note', 'box smaller than a pixel: mmdet leaves it out of training', where, detail
        )
    return True


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in box]
