"""CVAT XML 1.1: "CVAT for images", and "CVAT for video" with the frames as images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial
from xml.etree.ElementTree import Element

import numpy as np

from ....errors import UserError
from ..geometry import ellipse_polygon, pasted_rle, rotated_corners, turn_box
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of, stem
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
    if not label:
        return 'no label'

    def number(name: str, default: str | None = None) -> float:
        text = element.get(name, default)
        if text is None:
            raise ValueError(f'no attribute {name}')
        return float(text)

    degrees = number('rotation', '0')
    if element.tag == 'box':
        left, top = number('xtl'), number('ytl')
        annotation = Annotation(label, (left, top, number('xbr') - left, number('ybr') - top))
        turn_box(annotation, degrees)
        return annotation
    if element.tag == 'polygon':
        points = element.get('points', '').split(';')
        return Annotation(label, polygons=[[float(v) for p in points for v in p.split(',')]])
    if element.tag == 'ellipse':
        cx, cy, rx, ry = (number(name) for name in ('cx', 'cy', 'rx', 'ry'))
        angle = math.radians(degrees)
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
        UserError: If the frames of a video are not there as images.
    """
    reading = Reading(source)
    for file in files:
        root = source.read_xml(file)
        labels = root.iterfind('meta//labels/label')
        # Labels with a parent are the points of a skeleton.
        names = [label.findtext('name') or '' for label in labels if label.find('parent') is None]
        reading.data.classes += [n for n in names if n and n not in reading.data.classes]
        for image in root.iterfind('image'):
            _read_image(reading, file, image)
        if root.find('image') is None and root.find('track') is not None:
            _read_video(reading, file, root)
    return reading.finish()


def _read_video(reading: Reading, file: str, root: Element) -> None:
    """Reads tracks, which CVAT writes with a shape per frame, also between key frames."""
    width, height = (
        int(float(root.findtext(f'meta//original_size/{name}') or 0))
        for name in ('width', 'height')
    )
    size = (width, height)
    frames: dict[str, list[Element]] = {}
    for image in reading.source.images:
        name = stem(image)
        if re.fullmatch(r'frame_\d{6}', name) and reading.source.find_image(name, file) == image:
            frames[name] = []
    if not frames:
        raise UserError(
            f'{reading.source.root / file} is in the format "CVAT for video 1.1", which names no '
            'image files, and no frames such as frame_000000.png are beside it. Export the task '
            'with its images, or as "CVAT for images 1.1".'
        )
    for track in root.iterfind('track'):
        for shape in track:
            if shape.tag != 'track' and shape.get('outside') != '1':
                shape.set('label', track.get('label', ''))
                name = f'frame_{int(shape.get("frame", -1)):06d}'
                frames.setdefault(name, []).append(shape)
    for name, shapes in frames.items():
        if record := reading.add(file, name, size=size):
            _read_shapes(reading, record, name, shapes, size)


def _read_image(reading: Reading, file: str, image: Element) -> None:
    name, subset = image.get('name', ''), image.get('subset', '')
    size = (int(float(image.get('width', 0))), int(float(image.get('height', 0))))
    full_name = f'{subset}/{name}' if subset else name
    record = reading.add(file, full_name, size=size, split=split_of(f'{subset}/'))
    if record is not None:
        _read_shapes(reading, record, name, image, size)


def _read_shapes(
    reading: Reading,
    record: ImageRecord,
    name: str,
    elements: Iterable[Element],
    size: tuple[int, int],
) -> None:
    for position, element in enumerate(elements, 1):
        where = f'{record.file}, image {name}, shape {position}'
        if element.tag == 'tag':
            record.labels.append(element.get('label', ''))
        elif annotation := reading.read_object(
            where, position, partial(_read_shape, element, size)
        ):
            record.annotations.append(annotation)
