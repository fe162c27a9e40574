"""Inference on large images, tile by tile.

Other libraries: sahi has this for upright boxes and replaces the OpenCV build of the OpenMMLab
libraries; mmdet's ``merge_results_by_nms`` keeps the halves of objects that a tile has cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .boxes import Detections, areas_of, common_areas, nms
from .results import Result

#: Distance from the border of a tile, in pixels, within which an object counts as cut.
_MARGIN = 2.0
#: Share of a cut object's area inside a larger one of its class from which it is a part of that.
_MIN_INSIDE = 0.5
#: IoU from which two objects of a class are the same.
_MIN_IOU = 0.5


class Tile(NamedTuple):
    """A part of an image, in pixels: from (x1, y1) to, but not with, (x2, y2)."""

    x1: int
    y1: int
    x2: int
    y2: int


def cut_tiles(shape: Sequence[int], tile: int, overlap: float) -> list[Tile]:
    """Returns tiles that cover an image, row by row.

    All have the same size; the last ones of a row or column overlap more.

    Args:
        shape: (H, W) of the image in pixels.
        tile: Side of the tiles in pixels.
        overlap: Share of the side by which neighbours overlap, from 0 up to, but not, 1.

    Raises:
        UserError: If ``tile`` or ``overlap`` is out of range.
    """
    if tile < 32 or not 0 <= overlap < 1:
        raise UserError(
            'Tiles need at least 32 pixels and an overlap from 0 to below 1, got '
            f'tile={tile!r} and overlap={overlap!r}.'
        )
    starts = []
    for side in shape[:2]:
        last = max(side - tile, 0)
        count = int(np.ceil(last / max(tile * (1 - overlap), 1))) + 1
        starts.append(np.linspace(0, last, count).round().astype(int).tolist())
    height, width = shape[:2]
    return [
        Tile(x, y, min(x + tile, width), min(y + tile, height))
        for y in starts[0]
        for x in starts[1]
    ]


def predict_tiles(
    image: np.ndarray,
    tile: int,
    overlap: float,
    predict: Callable[[Sequence[np.ndarray]], Iterable[Result]],
) -> Result:
    """Returns the result of an image from those of its tiles.

    Args:
        image: (H, W) or (H, W, C) pixels.
        tile: Side of the tiles in pixels.
        overlap: Share of the side by which neighbours overlap.
        predict: Returns the results of several images.

    Raises:
        UserError: If the model is a classifier, or a tile cannot be processed.
    """
    tiles = cut_tiles(image.shape, tile, overlap)
    results = list(predict([image[y1:y2, x1:x2] for x1, y1, x2, y2 in tiles]))
    return results[0] if len(tiles) == 1 else merge_results(results, tiles, image.shape)


def merge_results(results: Sequence[Result], tiles: Sequence[Tile], shape: Sequence[int]) -> Result:
    """Merges the results of tiles into that of the image.

    Segmentation takes each pixel from the tile whose border is farthest. Of objects, parts that a
    tile has cut off are dropped if half of their area or more lies in a larger object of the same
    class; then NMS at an IoU of 0.5 drops double ones. An object that is larger than the overlap,
    and cut in all tiles, stays in parts.

    Args:
        results: Results of the tiles.
        tiles: Their places.
        shape: (H, W) of the image in pixels.

    Raises:
        UserError: If the results are those of a classifier.
    """
    if 'sem_seg' in results[0]:
        return _merge_masks(results, tiles, shape)
    if 'bboxes' in results[0]:
        return _merge_objects(results, tiles, shape)
    raise UserError('Tiles need a detector or a segmentor: classes are those of the whole image.')


def _merge_masks(results: Sequence[Result], tiles: Sequence[Tile], shape: Sequence[int]) -> Result:
    height, width = shape[:2]
    sem_seg = np.zeros((height, width), results[0]['sem_seg'].dtype)
    depth: np.ndarray = np.full((height, width), -1, np.int32)
    for result, (x1, y1, x2, y2) in zip(results, tiles, strict=True):
        own = _depth(y1, y2, height)[:, None]
        own = np.minimum(own, _depth(x1, x2, width)[None])
        better = own > depth[y1:y2, x1:x2]
        sem_seg[y1:y2, x1:x2][better] = result['sem_seg'][better]
        depth[y1:y2, x1:x2][better] = own[better]
    return {**results[0], 'sem_seg': sem_seg}


def _depth(start: int, stop: int, side: int) -> np.ndarray:
    """Distance of each pixel from the borders of its tile that are inside the image."""
    places = np.arange(start, stop)
    before = places - start if start else np.full(len(places), side)
    after = stop - 1 - places if stop < side else np.full(len(places), side)
    return np.minimum(before, after).astype(np.int32)


def _merge_objects(
    results: Sequence[Result], tiles: Sequence[Tile], shape: Sequence[int]
) -> Result:
    boxes, cut = [], []
    for result, tile in zip(results, tiles, strict=True):
        own = result['bboxes'].astype(np.float32).copy()
        cut.append(_is_cut(own, tile, shape))
        if own.shape[1] == 8:
            own += np.tile([tile.x1, tile.y1], 4).astype(np.float32)
        else:
            own[:, :2] += (tile.x1, tile.y1)
            if own.shape[1] == 4:
                own[:, 2:] += (tile.x1, tile.y1)
        boxes.append(own)
    merged: dict[str, Any] = dict(bboxes=np.concatenate(boxes))
    for key in ('labels', 'scores'):
        merged[key] = np.concatenate([result[key] for result in results])
    if 'classes' in results[0]:
        merged['classes'] = [name for result in results for name in result['classes']]
    if merged['bboxes'].shape[1] == 8:
        raise UserError('Tiles support upright boxes and rotated boxes with an angle.')
    keep = _choose(merged['bboxes'], merged['labels'], merged['scores'], np.concatenate(cut))
    final: Result = {key: merged[key][keep] for key in ('bboxes', 'labels', 'scores')}
    if 'classes' in merged:
        final['classes'] = [merged['classes'][i] for i in keep]
    if 'masks' in results[0]:
        owners = np.repeat(np.arange(len(tiles)), [len(result['labels']) for result in results])
        masks = [mask for result in results for mask in result['masks']]
        final['masks'] = np.zeros((len(keep), *shape[:2]), bool)
        for target, index in zip(final['masks'], keep, strict=True):
            x1, y1, x2, y2 = tiles[owners[index]]
            target[y1:y2, x1:x2] = masks[index]
    return final


def _is_cut(boxes: np.ndarray, tile: Tile, shape: Sequence[int]) -> np.ndarray:
    """Whether objects, in pixels of their tile, touch a border of it inside the image."""
    if boxes.shape[1] == 5:
        turn = boxes[:, 4]
        reach = np.abs(np.stack([np.cos(turn), np.sin(turn)], 1)) * boxes[:, 2:3] / 2
        reach = reach + np.abs(np.stack([np.sin(turn), np.cos(turn)], 1)) * boxes[:, 3:4] / 2
        low, high = boxes[:, :2] - reach, boxes[:, :2] + reach
    else:
        low, high = boxes[:, :2], boxes[:, 2:4]
    width, height = tile.x2 - tile.x1, tile.y2 - tile.y1
    return (
        ((low[:, 0] < _MARGIN) & (tile.x1 > 0))
        | ((low[:, 1] < _MARGIN) & (tile.y1 > 0))
        | ((high[:, 0] > width - _MARGIN) & (tile.x2 < shape[1]))
        | ((high[:, 1] > height - _MARGIN) & (tile.y2 < shape[0]))
    )


def _choose(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, cut: np.ndarray
) -> np.ndarray:
    """Indices of the objects to keep, in decreasing order of their scores."""
    areas = areas_of(boxes)
    whole: np.ndarray = np.ones(len(boxes), bool)
    for i in np.flatnonzero(cut):
        others = np.flatnonzero((labels == labels[i]) & (areas > areas[i]))
        inside = common_areas(boxes[i], boxes[others]) / max(float(areas[i]), 1e-6)
        whole[i] = (inside < _MIN_INSIDE).all()
    order = np.flatnonzero(whole)
    order = order[np.argsort(-scores[order], kind='stable')]
    return order[nms(Detections(boxes[order], scores[order], labels[order]), _MIN_IOU)]
