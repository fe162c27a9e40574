"""Conversions between boxes, polygons, run lengths and rotated boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from .records import Annotation, Box


def _coco_mask() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            'Masks of objects need pycocotools, which is not installed. '
            'Install it with `pip install pycocotools`.'
        ) from error
    return mask


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths of an (H, W) mask, with ``counts`` as text."""
    rle = _coco_mask().encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=[int(n) for n in rle['size']], counts=rle['counts'].decode())


def checked_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Returns COCO's run lengths with whole numbers, or raises a ValueError.

    pycocotools decodes run lengths that do not fill the image, and some invalid texts, without an
    error.
    """
    height, width = (int(n) for n in rle['size'])
    counts = rle['counts']
    if isinstance(counts, (str, bytes)):
        text = counts.decode('latin-1') if isinstance(counts, bytes) else counts
        runs = _read_runs(text)
    elif isinstance(counts, list) and all(isinstance(n, (int, float)) for n in counts):
        runs = [int(n) for n in counts]
        if runs != counts:
            raise ValueError('the run lengths are not whole numbers')
        counts = runs
    else:
        raise ValueError('the run lengths are neither a text nor a list of numbers')
    if min(runs, default=0) < 0:
        raise ValueError(f'a run has the length {min(runs)}')
    if sum(runs) != height * width:
        raise ValueError(f'the run lengths cover {sum(runs)} pixels, not {width} x {height}')
    return dict(size=[height, width], counts=counts)


def _read_runs(text: str) -> list[int]:
    """The run lengths in COCO's text: groups of six bits, differences from the third run on."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f'the run lengths contain the character {letter!r}')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError('the run lengths end within a number')
    return runs


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """(H, W) bool mask of COCO's run lengths, compressed or as a list of numbers."""
    if isinstance(rle['counts'], list):
        rle = _coco_mask().frPyObjects(rle, *rle['size'])
    return _coco_mask().decode(rle).astype(bool)


def draw_polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> np.ndarray:
    """(height, width) bool mask of the union of polygons."""
    module = _coco_mask()
    return module.decode(module.merge(module.frPyObjects(polygons, height, width))).astype(bool)


def pasted_rle(part: np.ndarray, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """Run lengths of a mask that covers only a part of an image.

    Args:
        part: (h, w) mask; what lies outside the image is cut off.
        left: Column of its left upper pixel in the image.
        top: Row of its left upper pixel in the image.
        width: Width of the image.
        height: Height of the image.
    """
    mask: np.ndarray = np.zeros((height, width), bool)
    rows = slice(max(top, 0), max(min(top + part.shape[0], height), 0))
    columns = slice(max(left, 0), max(min(left + part.shape[1], width), 0))
    mask[rows, columns] = part[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return encode_rle(mask)


def rotated_corners(
    cx: float, cy: float, width: float, height: float, angle: float
) -> tuple[float, ...]:
    """``(x1, y1, ..., x4, y4)`` of a box that is turned about its centre.

    The first corner is the left upper one before the turn; the others follow clockwise.

    Args:
        cx: Column of the centre.
        cy: Row of the centre.
        width: Length of the side that is horizontal at angle 0.
        height: Length of the other side.
        angle: Radians, clockwise as seen in the image.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    offsets = [(-width, -height), (width, -height), (width, height), (-width, height)]
    return tuple(
        value
        for x, y in offsets
        for value in (cx + (x * cos - y * sin) / 2, cy + (x * sin + y * cos) / 2)
    )


def turn_box(annotation: Annotation, degrees: float) -> None:
    """Turns the upright box of an object clockwise about its centre, in place.

    CVAT exports turned boxes to several formats as an upright box with an attribute ``rotation``.
    """
    if degrees and annotation.box is not None and not outline(annotation):
        left, top, width, height = annotation.box
        centre = (left + width / 2, top + height / 2)
        annotation.corners = rotated_corners(*centre, width, height, math.radians(degrees))
        annotation.box = None


def ellipse_polygon(
    cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, points: int = 72
) -> list[float]:
    """A polygon on an ellipse; ``angle`` in radians, clockwise."""
    polygon = []
    for step in range(points):
        turn = 2 * math.pi * step / points
        x, y = rx * math.cos(turn), ry * math.sin(turn)
        polygon.append(cx + x * math.cos(angle) - y * math.sin(angle))
        polygon.append(cy + x * math.sin(angle) + y * math.cos(angle))
    return polygon


def bounding_box(coordinates: Sequence[float]) -> Box:
    """Left, top, width and height of the box around ``[x1, y1, x2, y2, ...]``."""
    xs, ys = coordinates[::2], coordinates[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def outline(annotation: Annotation) -> list[float]:
    """All coordinates of an object that has polygons or corners; else an empty list."""
    if annotation.polygons:
        return [value for polygon in annotation.polygons for value in polygon]
    return list(annotation.corners or ())


def to_box(annotation: Annotation) -> Box:
    """The upright box of an object: the given one, else the one around its outline."""
    if annotation.box is not None:
        return annotation.box
    if coordinates := outline(annotation):
        return bounding_box(coordinates)
    left, top, width, height = _coco_mask().toBbox(encode_rle(decode_rle(annotation.rle or {})))
    return float(left), float(top), float(width), float(height)


def to_corners(annotation: Annotation) -> tuple[float, ...]:
    """The corners of an object: the given ones, else the smallest rectangle around its outline."""
    if annotation.corners is not None:
        return annotation.corners
    coordinates = outline(annotation)
    if not coordinates and annotation.rle is not None:
        contours, _ = cv2.findContours(
            decode_rle(annotation.rle).astype(np.uint8),
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_SIMPLE,
        )
        pixels = np.concatenate(contours) if contours else np.zeros((0, 1, 2), int)
        corners_of_pixels = pixels + [[0, 0], [1, 0], [0, 1], [1, 1]]
        coordinates = corners_of_pixels.ravel().tolist()
    if coordinates:
        points = np.array(coordinates, np.float32).reshape(-1, 2)
        return tuple(float(v) for v in cv2.boxPoints(cv2.minAreaRect(points)).ravel())
    left, top, width, height = to_box(annotation)
    return rotated_corners(left + width / 2, top + height / 2, width, height, 0.0)


def polygon_area(polygon: Sequence[float]) -> float:
    """Area within a polygon ``[x1, y1, x2, y2, ...]``."""
    xs, ys = np.array(polygon[::2]), np.array(polygon[1::2])
    return float(abs(xs @ np.roll(ys, 1) - ys @ np.roll(xs, 1)) / 2)


def to_area(annotation: Annotation) -> float:
    """Area in pixels: the stated one, else the one of the mask, polygons, corners or box."""
    if annotation.area is not None:
        return annotation.area
    if annotation.rle is not None:
        return float(decode_rle(annotation.rle).sum())
    if annotation.polygons:
        return sum(polygon_area(polygon) for polygon in annotation.polygons)
    if annotation.corners is not None:
        return polygon_area(annotation.corners)
    box = to_box(annotation)
    return box[2] * box[3]


def map_points(annotation: Annotation, change: Callable[[float, float], tuple]) -> None:
    """Applies a change of coordinates to everything but run lengths, in place."""

    def mapped(values: Sequence[float]) -> list[float]:
        return [v for i in range(0, len(values) - 1, 2) for v in change(values[i], values[i + 1])]

    if annotation.box is not None:
        left, top, width, height = annotation.box
        annotation.box = bounding_box(mapped([left, top, left + width, top + height]))
    annotation.polygons = [mapped(polygon) for polygon in annotation.polygons]
    if annotation.corners is not None:
        annotation.corners = tuple(mapped(annotation.corners))


def turn_point(
    orientation: int, width: int, height: int
) -> Callable[[float, float], tuple[float, float]]:
    """The change of coordinates when an image is turned as its EXIF orientation says.

    Args:
        orientation: 2 to 8.
        width: Width of the stored image, before the turn.
        height: Height of the stored image.
    """
    changes: dict[int, Callable[[float, float], tuple[float, float]]] = {
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    return changes[orientation]


def turn_array(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turns the pixels of an (H, W) array as an EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        array = array.T
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
