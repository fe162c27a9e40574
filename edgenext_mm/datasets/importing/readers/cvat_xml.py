"""CVAT XML 1.1, "CVAT for images"."""

from __future__ import annotations

import math
from functools import partial
from xml.etree.ElementTree import Element

import numpy as np

from ....errors import UserError
from ..geometry import ellipse_polygon, pasted_rle, rotated_corners
from ..records import Annotation, Annotations
from ..source import SourceFolder, split_of
from .reading import Reading


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
    reading = Reading(source)
    for file in files:
        root = source.read_xml(file)
        if root.find('image') is None and root.find('track') is not None:
            raise UserError(
                f'{source.root / file} is in the format "CVAT for video 1.1", which names no image '
                'files. Export the task as "CVAT for images 1.1".'
            )
        names = [label.findtext('name') or '' for label in root.iterfind('meta//labels/label')]
        reading.data.classes += [n for n in names if n and n not in reading.data.classes]
        for image in root.iterfind('image'):
            _read_image(reading, file, image)
    return reading.finish()


def _read_image(reading: Reading, file: str, image: Element) -> None:
    name, subset = image.get('name', ''), image.get('subset', '')
    size = (int(float(image.get('width', 0))), int(float(image.get('height', 0))))
    full_name = f'{subset}/{name}' if subset else name
    record = reading.add(file, full_name, size=size, split=split_of(f'{subset}/'))
    if record is None:
        return
    for position, element in enumerate(image, 1):
        if element.tag == 'tag':
            record.labels.append(element.get('label', ''))
        elif annotation := reading.read_object(
            f'{file}, image {name}, shape {position}', position, partial(_read_shape, element, size)
        ):
            record.annotations.append(annotation)
