"""LabelMe JSON: a file of shapes per image."""

from __future__ import annotations

import base64
import io
import math
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ....errors import UserError
from ..geometry import ellipse_polygon, pasted_rle, rotated_corners
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of, stem
from .reading import Reading


def _read_shape(shape: dict[str, Any], size: tuple[int, int]) -> Annotation | str:
    """An object, or why a shape is none."""
    label, kind = str(shape.get('label', '')), shape.get('shape_type') or 'polygon'
    points = [(float(x), float(y)) for x, y in shape.get('points') or []]
    flat = [value for point in points for value in point]
    if not label:
        return 'no label'
    if kind == 'rectangle' and len(points) in (2, 4):
        xs, ys = flat[::2], flat[1::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        around = (left, top, right, top, right, bottom, left, bottom)
        box = (left, top, right - left, bottom - top)
        # An outline, too, as for LabelMe's own converters.
        return Annotation(label, box, [list(around)], corners=around)
    if kind in ('rotation', 'oriented_rectangle') and len(points) == 4:
        return Annotation(label, polygons=[flat], corners=tuple(flat))
    if kind == 'polygon' and len(points) >= 3:
        return Annotation(label, polygons=[flat])
    if kind == 'circle' and len(points) == 2:
        (cx, cy), edge = points
        radius = math.dist((cx, cy), edge)
        box = (cx - radius, cy - radius, 2 * radius, 2 * radius)
        corners = rotated_corners(cx, cy, 2 * radius, 2 * radius, 0.0)
        return Annotation(label, box, [ellipse_polygon(cx, cy, radius, radius)], corners=corners)
    if kind == 'mask' and shape.get('mask') and points:
        content = base64.b64decode(shape['mask'])
        part = np.asarray(Image.open(io.BytesIO(content)).convert('L')) > 0
        left, top = round(flat[0]), round(flat[1])
        return Annotation(label, rle=pasted_rle(part, left, top, *size))
    return f'shape {kind!r} with {len(points)} points has no area'


def _merge_groups(shapes: list[tuple[Any, Annotation]]) -> list[Annotation]:
    """Joins polygons of one class and ``group_id`` into one object."""
    merged: dict[Any, Annotation] = {}
    for position, (group, annotation) in enumerate(shapes):
        only_polygons = annotation.polygons and annotation.box is None
        key = (annotation.label, group) if group is not None and only_polygons else position
        if key in merged:
            merged[key].polygons += annotation.polygons
            merged[key].corners = None
        else:
            merged[key] = annotation
    return list(merged.values())


def _add(reading: Reading, file: str, content: dict[str, Any]) -> ImageRecord | None:
    """The record of an image file, or of the pixels in ``imageData`` if there is no file."""
    name = str(content.get('imagePath') or stem(file))
    size = (int(content.get('imageWidth') or 0), int(content.get('imageHeight') or 0))
    found = reading.source.find_image(name, file) or reading.source.find_image(stem(file), file)
    if found is not None or not content.get('imageData'):
        return reading.add(file, found or name, size=size)
    reading.data.report('changed', 'image taken from imageData', file, name)
    record = ImageRecord(f'{file}.png', file, split_of(file), stated_size=size, embedded=True)
    reading.records[record.path] = record
    return record


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads LabelMe files; images without one are left out.

    Shapes without an area (points, lines) are left out. Where the image file is missing, the
    pixels in ``imageData`` are used.

    Args:
        source: The folder.
        files: The LabelMe files in it.
    """
    reading = Reading(source)
    for file in files:
        try:
            content = source.read_json(file)
        except UserError as error:
            reading.data.report('left out', 'invalid JSON', file, str(error))
            continue
        record = _add(reading, file, content)
        if record is None:
            continue
        shapes = []
        for position, shape in enumerate(content.get('shapes') or [], 1):
            if annotation := reading.read_object(
                f'{file}, shape {position}',
                position,
                partial(_read_shape, shape, record.stated_size or (0, 0)),
            ):
                shapes.append((shape.get('group_id'), annotation))
        record.annotations = _merge_groups(shapes)
        record.labels = [label for label, on in (content.get('flags') or {}).items() if on]
    return reading.finish(sort_classes=True)
