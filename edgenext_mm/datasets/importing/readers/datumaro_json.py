"""Datumaro JSON: ``annotations/SUBSET.json`` beside ``images/SUBSET/``."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ..geometry import checked_rle, ellipse_polygon, rotated_corners, turn_box
from ..records import Annotation, Annotations
from ..source import SourceFolder
from .reading import Reading


def _read_shape(entry: dict[str, Any], label: str) -> Annotation | str:
    """An object, or why an entry is none."""
    kind = entry.get('type')
    crowd = bool((entry.get('attributes') or {}).get('is_crowd'))
    if kind == 'bbox':
        left, top, width, height = (float(v) for v in entry['bbox'])
        annotation = Annotation(label, (left, top, width, height), crowd=crowd)
        turn_box(annotation, float((entry.get('attributes') or {}).get('rotation') or 0))
        return annotation
    if kind == 'rotated_bbox':
        cx, cy, width, height, angle = (float(v) for v in entry.get('bbox') or entry['points'])
        return Annotation(
            label, corners=rotated_corners(cx, cy, width, height, math.radians(angle))
        )
    if kind == 'polygon':
        return Annotation(label, polygons=[[float(v) for v in entry['points']]], crowd=crowd)
    if kind == 'ellipse':
        x1, y1, x2, y2 = (float(v) for v in entry['points'])
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        width, height = abs(x2 - x1), abs(y2 - y1)
        polygon = ellipse_polygon(*centre, width / 2, height / 2)
        return Annotation(
            label, polygons=[polygon], corners=rotated_corners(*centre, width, height, 0.0)
        )
    if kind == 'mask':
        return Annotation(label, rle=checked_rle(entry['rle']), crowd=crowd)
    return f'type {kind!r} has no area'


def _merge_groups(shapes: list[tuple[int, Annotation]]) -> list[Annotation]:
    """Joins shapes of one class and one group other than 0 into one object.

    Datumaro writes an object with an outline as a group of a box and its polygons or mask.
    """
    merged: dict[Any, Annotation] = {}
    for position, (group, annotation) in enumerate(shapes):
        first = merged.get((annotation.label, group)) if group else None
        if first is None or not _fit_together(first, annotation):
            key = (annotation.label, group)
            merged[key if group and key not in merged else position] = annotation
            continue
        first.box = first.box or annotation.box
        first.polygons += annotation.polygons
        first.rle = first.rle or annotation.rle
        first.crowd |= annotation.crowd
    return list(merged.values())


def _fit_together(first: Annotation, other: Annotation) -> bool:
    if first.corners or other.corners:
        return False
    return not (first.box and other.box) and not (first.rle and other.rle)


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads Datumaro files. Points, polylines and captions are left out.

    Args:
        source: The folder.
        files: The Datumaro files in it.
    """
    reading = Reading(source)
    for file in files:
        content = source.read_json(file)
        labels = (content.get('categories') or {}).get('label') or {}
        entries = labels.get('labels') or []
        names = [str(label['name']) for label in entries]
        points = (content['categories'].get('points') or {}).get('items') or []
        skeletons = {names[item['label_id']] for item in points if item['label_id'] < len(names)}
        for name, label in zip(names, entries, strict=True):
            is_point = label.get('parent') in skeletons  # of a skeleton
            if name not in reading.data.classes and not is_point:
                reading.data.classes.append(name)
        for item in content.get('items') or []:
            _read_item(reading, file, item, names)
    return reading.finish()


def _read_item(reading: Reading, file: str, item: dict[str, Any], names: list[str]) -> None:
    image = item.get('image') or item.get('media') or {}
    height, width = image.get('size') or (0, 0)
    name = str(image.get('path') or item['id'])
    record = reading.add(file, name, str(item['id']), size=(int(width), int(height)))
    if record is None:
        return
    shapes = []
    for position, entry in enumerate(item.get('annotations') or [], 1):
        where = f'{file}, item {item["id"]}, annotation {position}'
        index = entry.get('label_id')
        if not isinstance(index, int) or not 0 <= index < len(names):
            detail = f'label_id {index}, but {len(names)} labels are given'
            reading.data.report('left out', 'class without a name', where, detail)
        elif entry.get('type') == 'label':
            record.labels.append(names[index])
        elif annotation := reading.read_object(
            where, position, partial(_read_shape, entry, names[index])
        ):
            shapes.append((int(entry.get('group') or 0), annotation))
    record.annotations = _merge_groups(shapes)
