"""LabelMe JSON: a file of shapes per image."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ....errors import UserError
from ..geometry import ellipse_polygon, pasted_rle
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of, stem


def _read_shape(shape: dict[str, Any], size: tuple[int, int]) -> Annotation | str:
    """An object, or why a shape is none."""
    label, kind = str(shape.get('label', '')), shape.get('shape_type') or 'polygon'
    points = [(float(x), float(y)) for x, y in shape.get('points') or []]
    flat = [value for point in points for value in point]
    if not label:
        return 'no label'
    if kind == 'rectangle' and len(points) in (2, 4):
        xs, ys = flat[::2], flat[1::2]
        left, top = min(xs), min(ys)
        return Annotation(label, (left, top, max(xs) - left, max(ys) - top))
    if kind in ('rotation', 'oriented_rectangle') and len(points) == 4:
        return Annotation(label, polygons=[flat], corners=tuple(flat))
    if kind == 'polygon' and len(points) >= 3:
        return Annotation(label, polygons=[flat])
    if kind == 'circle' and len(points) == 2:
        (cx, cy), edge = points
        radius = math.dist((cx, cy), edge)
        box = (cx - radius, cy - radius, 2 * radius, 2 * radius)
        return Annotation(label, box, [ellipse_polygon(cx, cy, radius, radius)])
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


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads LabelMe files; images without one are left out.

    Shapes without an area (points, lines) are left out. Where the image file is missing, the
    pixels in ``imageData`` are used.

    Args:
        source: The folder.
        files: The LabelMe files in it.
    """
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    for file in files:
        try:
            content = source.read_json(file)
        except UserError as error:
            result.report('left out', 'invalid JSON', file, str(error))
            continue
        name = str(content.get('imagePath') or stem(file))
        path = source.find_image(name, file) or source.find_image(stem(file), file)
        size = (int(content.get('imageWidth') or 0), int(content.get('imageHeight') or 0))
        record = ImageRecord(path or f'{file}.png', file, split_of(path or file), stated_size=size)
        if path is None and content.get('imageData'):
            record.embedded = True
            result.report('changed', 'image taken from imageData', file, name)
        elif path is None:
            result.report('left out', 'image not found', file, name)
            continue
        if record.path in records:
            detail = f'{record.path} is annotated by {records[record.path].file} already'
            result.report('left out', 'image with two annotation files', file, detail)
            continue
        shapes = []
        for position, shape in enumerate(content.get('shapes') or [], 1):
            try:
                annotation = _read_shape(shape, size)
            except (TypeError, ValueError, OSError) as error:
                annotation = str(error)
            if isinstance(annotation, str):
                result.report(
                    'left out', 'shape that is no object', f'{file}:{position}', annotation
                )
            else:
                annotation.line = position
                shapes.append((shape.get('group_id'), annotation))
        record.annotations = _merge_groups(shapes)
        record.labels = [label for label, on in (content.get('flags') or {}).items() if on]
        records[record.path] = record
    for image in source.images:
        if image not in records:
            result.report('left out', 'image without annotation file', image)
    result.images = list(records.values())
    result.classes = sorted(
        {a.label for r in result.images for a in r.annotations}
        | {label for r in result.images for label in r.labels}
    )
    return result
