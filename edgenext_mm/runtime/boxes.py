"""From decoded boxes to detections: the best of each level, clipping, scaling, NMS.

The order of steps is that of mmdet's ``BaseDenseHead.predict_by_feat``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UserError

#: The score of a box that was filtered out; real scores are at least 0.
NO_SCORE = -1.0
#: Image size without a limit: larger than any image, and finite in half precision.
UNLIMITED = 65504.0


class Selection(NamedTuple):
    """How a detector selects its boxes, from the ``test_cfg`` of its head.

    Args:
        score_thr: Boxes are kept if their class score, before score factors, is above this.
        nms_pre: Maximum number of boxes per level before NMS.
        iou_threshold: IoU above which NMS suppresses a box.
        class_agnostic: Whether boxes of different classes suppress each other.
        max_per_img: Maximum number of boxes per image after NMS.
        min_bbox_size: Boxes are kept if width and height, in pixels of the original image, are
            above this; None keeps all.
        clip: Whether boxes, or the centres of rotated boxes, are clipped to the image.
        strides: Strides of the levels, in pixels.
        num_priors: Number of boxes per position, of each level.
        sizes: Number of boxes of each level, for files of a fixed size. Default: from the strides.
    """

    score_thr: float
    nms_pre: int
    iou_threshold: float
    class_agnostic: bool
    max_per_img: int
    min_bbox_size: float | None
    clip: bool
    strides: tuple[int, ...]
    num_priors: tuple[int, ...]
    sizes: tuple[int, ...] | None = None

    def level_sizes(self, shape: Sequence[int]) -> list[int]:
        """Returns the number of boxes of each level for an (H, W) input."""
        if self.sizes is not None:
            return list(self.sizes)
        return [
            -(-shape[0] // stride) * -(-shape[1] // stride) * priors
            for stride, priors in zip(self.strides, self.num_priors, strict=True)
        ]


class FinalBoxes(NamedTuple):
    """How the boxes of a file that holds the complete detector become detections.

    Args:
        mask_thr: Pixels belong to an object if their probability is at least this. Default: None,
            the file has no masks.
        is_final: Whether the boxes are final; distinguishes this description. Default: True.
    """

    mask_thr: float | None = None
    is_final: bool = True


@dataclass(frozen=True)
class Detections:
    """Boxes of an image, best first.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2 or (N, 5) centre x and y, width, height and angle
            (radians, clockwise), in pixels.
        scores: (N,) scores.
        labels: (N,) numbers of classes.
        masks: (N, h, w) probabilities of the pixels of each box. Default: None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def take(self, chosen: np.ndarray | Sequence[int]) -> Detections:
        """Returns some of the boxes, by a mask or by indices."""
        index = np.asarray(chosen, dtype=None if len(chosen) else int)
        masks = None if self.masks is None else self.masks[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], masks)

    def sorted(self) -> Detections:
        """Returns the boxes with the highest scores first."""
        return self.take(np.argsort(-self.scores, kind='stable'))


def default_inputs(batch_size: int) -> dict[str, np.ndarray]:
    """Returns the other inputs of files with NMS, for images without padding and resizing.

    Returns:
        ``image_size``, (B, 2) heights and widths without padding, and ``scale_factor``, (B, 2)
        factors by which widths and heights were multiplied.
    """
    return dict(
        image_size=np.full((batch_size, 2), UNLIMITED, np.float32),
        scale_factor=np.ones((batch_size, 2), np.float32),
    )


def final_detections(
    outputs: Sequence[np.ndarray], image_size: Sequence[int], scale_factor: Sequence[float]
) -> Detections:
    """Returns the detections among the final boxes of a file.

    Args:
        outputs: (K, 4) boxes in pixels of the input, (K,) scores, :data:`NO_SCORE` for boxes that
            do not exist, (K,) labels and optionally (K, h, w) probabilities of pixels.
        image_size: (H, W) of the image in the input, without padding.
        scale_factor: Factors by which the width and height of the original image were multiplied.

    Returns:
        Detections in pixels of the original image.
    """
    found = Detections(*outputs)
    found = found.take(found.scores > NO_SCORE)
    boxes = rescaled(clipped(found.boxes, image_size), scale_factor)
    return Detections(boxes, found.scores, found.labels, found.masks).sorted()


def pasted(
    masks: np.ndarray, boxes: np.ndarray, image_size: Sequence[int], threshold: float
) -> np.ndarray:
    """Returns which pixels of an image belong to the objects in boxes.

    Probabilities are interpolated bilinearly between the centres of the cells of a box, as
    ``torch.nn.functional.grid_sample`` does it, and are 0 outside.

    Args:
        masks: (N, h, w) probabilities.
        boxes: (N, 4) corners in pixels of the image.
        image_size: (H, W) of the image.
        threshold: Pixels belong to an object if their probability is at least this.

    Returns:
        (N, H, W) bool.
    """
    found: np.ndarray = np.zeros((len(masks), *image_size), bool)
    for mask, box, target in zip(masks, boxes, found, strict=True):
        rows = _interpolation(box[1], box[3], mask.shape[0], image_size[0])
        columns = _interpolation(box[0], box[2], mask.shape[1], image_size[1])
        target[:] = rows @ mask.astype(np.float32) @ columns.T >= threshold
    return found


def _interpolation(start: float, end: float, cells: int, length: int) -> np.ndarray:
    """Returns the (length, cells) weights of the cells between start and end for each pixel."""
    size = np.float32(end - start)
    with np.errstate(divide='ignore', invalid='ignore'):
        position = (np.arange(length, dtype=np.float32) + np.float32(0.5) - start) / size
    position = np.where(np.isfinite(position), position * cells - 0.5, np.float32(-2))
    distance = np.abs(position[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(1 - distance, 0).astype(np.float32)


def select(
    boxes: np.ndarray,
    scores: np.ndarray,
    factors: np.ndarray | None,
    selection: Selection,
    shape: Sequence[int],
    image_size: Sequence[int],
    scale_factor: Sequence[float],
) -> Detections:
    """Selects the detections among all decoded boxes of an image.

    Args:
        boxes: (A, 4) or (A, 5) boxes in pixels of the input, level by level.
        scores: (A, num_classes) scores.
        factors: (A,) factors of the scores, such as centreness; None if the head has none.
        selection: How boxes are selected.
        shape: (H, W) of the input, with padding.
        image_size: (H, W) of the image in the input, without padding.
        scale_factor: Factors by which the width and height of the original image were multiplied.

    Returns:
        Detections in pixels of the original image.
    """
    kept, labels = _best_of_levels(scores, selection, shape)
    scores, boxes = scores[kept, labels], boxes[kept].astype(np.float32)
    is_rotated = boxes.shape[1] == 5
    if selection.clip:
        boxes = clipped(boxes, image_size)
    boxes = rescaled(boxes, scale_factor)
    if factors is not None:
        scores = scores * factors[kept]
    found = Detections(boxes, scores, labels)
    if selection.min_bbox_size is not None:
        sides = boxes[:, 2:4] if is_rotated else boxes[:, 2:] - boxes[:, :2]
        found = found.take((sides > selection.min_bbox_size).all(1))
    found = found.sorted()
    limits = selection.iou_threshold, selection.class_agnostic, selection.max_per_img
    return found.take(nms(found, *limits))


def _best_of_levels(
    scores: np.ndarray, selection: Selection, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and classes of the ``nms_pre`` best scores of each level."""
    start, rows, classes = 0, [], []
    sizes = selection.level_sizes(shape)
    if sum(sizes) != len(scores):
        raise UserError(
            f'The file returns {len(scores)} boxes for an input of {shape[0]}x{shape[1]}, but the '
            f'strides of its levels lead to {sum(sizes)}. Export it for this size: --shape.'
        )
    for size in sizes:
        row, label = np.nonzero(scores[start : start + size] > selection.score_thr)
        row += start
        order = np.argsort(-scores[row, label], kind='stable')[: selection.nms_pre]
        rows.append(row[order])
        classes.append(label[order])
        start += size
    return np.concatenate(rows), np.concatenate(classes)


def clipped(boxes: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Returns boxes whose corners, or centres of rotated boxes, lie in an (H, W) image."""
    height, width = image_size
    if boxes.shape[1] == 4:
        return boxes.clip(0, np.array([width, height, width, height], np.float32))
    centres = boxes[:, :2].clip(0, np.array([width - 1, height - 1], np.float32))
    return np.concatenate([centres, boxes[:, 2:]], axis=1)


def rescaled(boxes: np.ndarray, scale_factor: Sequence[float]) -> np.ndarray:
    """Returns boxes in pixels of the original image.

    Args:
        boxes: (N, 4) or (N, 5) boxes in pixels of the resized image.
        scale_factor: Factors by which width and height were multiplied.
    """
    x, y = (np.float32(1 / factor) for factor in scale_factor)
    if boxes.shape[1] == 4:
        return boxes * np.array([x, y, x, y], np.float32)
    # A rectangle stays one only if both factors are equal; sides are scaled along their directions.
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return np.stack(
        [
            boxes[:, 0] * x,
            boxes[:, 1] * y,
            boxes[:, 2] * np.hypot(x * cos, y * sin),
            boxes[:, 3] * np.hypot(x * sin, y * cos),
            np.arctan2(x * sin, y * cos),
        ],
        axis=1,
    )


def nms(
    found: Detections,
    iou_threshold: float,
    class_agnostic: bool = False,
    max_per_img: int | None = None,
) -> list[int]:
    """Non-maximum suppression: returns the indices of the detections to keep.

    Args:
        found: Detections, best first.
        iou_threshold: IoU above which a box suppresses those after it.
        class_agnostic: Whether boxes of different classes suppress each other. Default: False.
        max_per_img: Maximum number of boxes. Default: no limit.
    """
    kept: list[int] = []
    waiting = np.arange(len(found.scores))
    while len(waiting) and (max_per_img is None or len(kept) < max_per_img):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        rivals: np.ndarray = np.ones(len(waiting), bool)
        if not class_agnostic:
            rivals = found.labels[waiting] == found.labels[best]
        rivals[rivals] = iou(found.boxes[best], found.boxes[waiting[rivals]]) > iou_threshold
        waiting = waiting[~rivals]
    return kept


def areas_of(boxes: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas of (N, 4) or (N, 5) boxes."""
    sides = boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the IoU of a box with others.

    Args:
        box: (4,) corners x1, y1, x2, y2, or (5,) centre x and y, width, height and angle (radians,
            clockwise).
        others: (N, 4) or (N, 5) boxes.
    """
    common = common_areas(box, others)
    union = areas_of(others) + areas_of(box[None]) - common
    return common / np.maximum(union, 1e-6)


def common_areas(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas that a box shares with others; arguments as for :func:`iou`."""
    if len(box) == 4:
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        return sides.clip(0).prod(1)
    common = np.zeros(len(others))
    reach = np.hypot(box[2], box[3]) + np.hypot(others[:, 2], others[:, 3])
    near = 2 * np.hypot(*(others[:, :2] - box[:2]).T) < reach
    if near.any():
        centre = np.array([*box[:2], 0, 0, 0], float)  # sums of large coordinates lose digits
        common[near] = _common_polygons(box.astype(float) - centre, others[near] - centre)
    return common


def corners_of(boxes: np.ndarray) -> np.ndarray:
    """Returns the (N, 4, 2) corners of (N, 5) rotated boxes, in order around the box."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack([cos, sin], 1) * boxes[:, 2:3] / 2
    across = np.stack([-sin, cos], 1) * boxes[:, 3:4] / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.stack([boxes[:, :2] + a * along + b * across for a, b in signs], axis=1)


def _common_polygons(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas that a rotated box shares with others.

    The common polygon has up to 8 corners: corners of one box in the other, and crossings of sides.
    """
    first = np.broadcast_to(corners_of(box[None]), (len(others), 4, 2))
    second = corners_of(others)
    crossings, crosses = _crossings(first, second)
    points = np.concatenate([first, second, crossings], axis=1)
    valid = np.concatenate(
        [
            _inside(first, others),
            _inside(second, np.broadcast_to(box, others.shape)),
            crosses,
        ],
        axis=1,
    )
    count = np.maximum(valid.sum(1), 1)
    middle = (points * valid[..., None]).sum(1) / count[:, None]
    points = points - middle[:, None]
    angles = np.where(valid, np.arctan2(points[..., 1], points[..., 0]), np.inf)
    order = np.argsort(angles, axis=1, kind='stable')
    points = np.take_along_axis(points, order[..., None], axis=1)
    valid = np.take_along_axis(valid, order, axis=1)
    # Positions after the last corner repeat the first one, which adds no area.
    points = np.where(valid[..., None], points, points[:, :1])
    following = np.roll(points, -1, axis=1)
    doubled = points[..., 0] * following[..., 1] - points[..., 1] * following[..., 0]
    return np.where(valid.any(1), np.abs(doubled.sum(1)) / 2, 0.0)


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether (N, K, 2) points lie in their (N, 5) boxes."""
    offset = points - boxes[:, None, :2]
    cos, sin = np.cos(boxes[:, 4])[:, None], np.sin(boxes[:, 4])[:, None]
    along = np.abs(offset[..., 0] * cos + offset[..., 1] * sin)
    across = np.abs(offset[..., 1] * cos - offset[..., 0] * sin)
    slack = 1e-9 * (1 + boxes[:, 2:3] + boxes[:, 3:4])
    return (along <= boxes[:, 2:3] / 2 + slack) & (across <= boxes[:, 3:4] / 2 + slack)


def _crossings(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (N, 16, 2) crossings of the sides of two boxes, and which of them exist."""
    start, other = first[:, :, None], second[:, None]
    step = np.roll(first, -1, axis=1)[:, :, None] - start
    other_step = np.roll(second, -1, axis=1)[:, None] - other
    determinant = _cross(step, other_step)
    gap = other - start
    with np.errstate(divide='ignore', invalid='ignore'):
        along = _cross(gap, other_step) / determinant
        along_other = _cross(gap, step) / determinant
    exists = (determinant != 0) & (along >= 0) & (along <= 1)
    exists &= (along_other >= 0) & (along_other <= 1)
    points = start + np.where(exists, along, 0)[..., None] * step
    return points.reshape(len(first), 16, 2), exists.reshape(len(first), 16)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
