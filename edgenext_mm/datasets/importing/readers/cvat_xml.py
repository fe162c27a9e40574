"""CVAT XML 1.1, "CVAT for images"."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

import numpy as np

from ....errors import UserError
from ..geometry import ellipse_polygon, pasted_rle, rotated_corners
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of


def _mask(element: Element, size: tuple[int, int]) -> dict:
    """Run lengths of a ``<mask>``: row by row within its rectangle, beginning with background."""
    width, height = int(element.get('width', 0)), int(element.get('height', 0))
    runs = [int(run) for run in element.get('rle', '').split(',')]
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    if values.size != width * height:
        raise ValueError(f'the run lengths cover {values.size} pixels, not {width} x {height}')
    left, top = int(float(element.get('left', 0))), int(float(element.get('top', 0)))
    return pasted_rle(values.reshape(height, width), left, top, *size)


def _read_shape(element: Element, size: tuple[int, int]) -> Annotation | str:
    """An object, or why an element is none."""
    label = element.get('label', '')

    def number(name: str, default: str | None = None) -> float:
        text = element.get(name, default)
        if text is None:
            raise ValueError(f'no attribute {name}')
        return float(text)

    angle = math.radians(number('rotation', '0'))
    if element.tag == 'box':
        left, top = number('xtl'), number('ytl')
        width, height = number('xbr') - left, number('ybr') - top
        if not angle:
            return Annotation(label, (left, top, width, height))
        centre = (left + width / 2, top + height / 2)
        return Annotation(label, corners=rotated_corners(*centre, width, height, angle))
    if element.tag == 'polygon':
        points = element.get('points', '').split(';')
        return Annotation(label, polygons=[[float(v) for p in points for v in p.split(',')]])
    if element.tag == 'ellipse':
        cx, cy, rx, ry = (number(name) for name in ('cx', 'cy', 'rx', 'ry'))
        polygon = ellipse_polygon(cx, cy, rx, ry, angle)
        return Annotation(
            label, polygons=[polygon], corners=rotated_corners(cx, cy, 2 * rx, 2 * ry, angle)
        )
    if element.tag == 'mask':
        return Annotation(label, rle=_mask(element, size))
    return f'<{element.tag}> has no area'


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads CVAT files. Points, polylines, cuboids and skeletons are left out.

    Args:
        source: The folder.
        files: The CVAT files in it.

    Raises:
        UserError: If a file is in the format "CVAT for video".
    """
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    for file in files:
        root = source.read_xml(file)
        if root.find('image') is None and root.find('track') is not None:
            raise UserError(
                f'{source.root / file} is in the format "CVAT for video 1.1", which names no image '
                'files. Export the task as "CVAT for images 1.1".'
            )
        names = [label.findtext('name') or '' for label in root.iterfind('meta//labels/label')]
        result.classes += [name for name in names if name and name not in result.classes]
        for image in root.iterfind('image'):
            name, subset = image.get('name', ''), image.get('subset', '')
            path = source.find_image(f'{subset}/{name}' if subset else name, file)
            if path is None:
                result.report('left out', 'image not found', file, name)
                continue
            if path in records:
                result.report('left out', 'image listed twice', file, name)
                continue
            size = (int(float(image.get('width', 0))), int(float(image.get('height', 0))))
            split = split_of(f'{subset}/') or split_of(path) or split_of(file)
            record = ImageRecord(path, file, split, stated_size=size)
            records[path] = record
            for position, element in enumerate(image, 1):
                if element.tag == 'tag':
                    record.labels.append(element.get('label', ''))
                    continue
                try:
                    annotation = _read_shape(element, size)
                except ValueError as error:
                    annotation = str(error)
                if isinstance(annotation, str):
                    where = f'{file}, image {name}, shape {position}'
                    result.report('left out', 'shape that is no object', where, annotation)
                else:
                    annotation.line = position
                    record.annotations.append(annotation)
    for image_path in source.images:
        if image_path not in records:
            result.report('left out', 'image without annotation', image_path)
    result.images = list(records.values())
    return result
