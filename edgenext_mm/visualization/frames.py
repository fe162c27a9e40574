"""Drawing of results on the frames of a video, which is faster than figures."""

from __future__ import annotations

import cv2
import numpy as np

from ..datasets.palette import voc_palette
from ..runtime.results import Result, class_name, is_class, object_names
from .draw import box_colour, box_corners

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_on_frame(image: np.ndarray, result: Result) -> np.ndarray:
    """Returns a copy of an image with a result drawn on it, of the same size.

    Args:
        image: (H, W, 3) uint8, blue-green-red.
        result: A prediction, see :mod:`~edgenext_mm.runtime.results`; one with ``error`` is written
            as text.
    """
    canvas = image.copy()
    scale = max(image.shape[:2]) / 1000 + 0.25
    if 'error' in result:
        _write(canvas, 'no result', (5, 5), (0, 0, 200), scale)
    elif is_class(result):
        text = class_name(result)
        if 'pred_score' in result:
            text += f' {result["pred_score"]:.0%}'
        _write(canvas, text, (5, 5), (60, 60, 60), scale)
    elif 'sem_seg' in result:
        colours = voc_palette()[result['sem_seg'] % 256][..., ::-1]
        shown = result['sem_seg'] != 0  # the first class is the background in most data sets
        canvas[shown] = (0.4 * canvas[shown] + 0.6 * colours[shown]).astype(np.uint8)
    else:
        _draw_objects(canvas, result, scale)
    return canvas


def _draw_objects(canvas: np.ndarray, result: Result, scale: float) -> None:
    for mask, label in zip(result.get('masks', ()), result['labels'], strict=False):
        colour = np.array(_colour(label))
        canvas[mask] = (0.5 * canvas[mask] + 0.5 * colour).astype(np.uint8)
    names = object_names(result)
    for box, label, name, score in zip(
        result['bboxes'], result['labels'], names, result['scores'], strict=True
    ):
        corners: np.ndarray = box_corners(box).round().astype(np.int32)
        cv2.polylines(canvas, [corners], True, _colour(label), max(1, round(2 * scale)))
        x, y = corners[corners[:, 1].argmin()]
        _write(canvas, f'{name} {score:.0%}', (int(x), int(y)), _colour(label), 0.7 * scale)


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = (int(255 * value) for value in box_colour(label))
    return blue, green, red


def _write(
    canvas: np.ndarray, text: str, place: tuple[int, int], back: tuple[int, int, int], scale: float
) -> None:
    """Writes text on a rectangle that begins at a place, moved into the image."""
    text = text.encode('ascii', 'replace').decode()  # OpenCV has no other letters
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    x = min(max(place[0], 0), max(canvas.shape[1] - width, 0))
    y = min(max(place[1], 0), max(canvas.shape[0] - height - below, 0))
    cv2.rectangle(canvas, (x, y), (x + width, y + height + below), back, cv2.FILLED)
    dark = sum(back) < 300
    colour = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(canvas, text, (x, y + height), _FONT, scale, colour, 1, cv2.LINE_AA)
