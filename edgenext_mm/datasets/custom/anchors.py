"""Anchors that fit the boxes of a data set.

The quality of a set of anchors is the IoU of a box with its best anchor, at the positions where the
detector places anchors: the mean over the boxes of a class, and over the classes. Rare classes thus
count as much as frequent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Number of maps of SSDLite.
NUM_SSD_LEVELS = 6
#: Ratios of width to height of SSDLite's anchors, besides their inverses.
SSD_RATIOS = ((2, 3),) * (NUM_SSD_LEVELS - 1) + ((2,),)
#: Anchor sizes of the paper's SSDLite, in equal steps from 0.1 to 1.05 of the input's width.
SSD_SIZES = (0.1, 0.25834, 0.41666, 0.575, 0.73334, 0.89166, 1.05)
#: Strides of the maps behind an FPN.
FPN_STRIDES = (8, 16, 32, 64, 128)
#: Smallest and largest anchor size, as a fraction of the input's width.
_SIZE_RANGE = (0.02, 1.2)
#: Smallest ratio of an anchor size to the one before it.
_MIN_STEP = 1.05


#: Number of boxes from which anchors are fitted.
_MAX_BOXES = 1000


def mean_iou(ious: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the classes of the mean IoU of their boxes.

    Args:
        ious: (N,) IoU of each box with its best anchor.
        labels: (N,) class of each box.
    """
    _, groups = np.unique(labels, return_inverse=True)
    return float((np.bincount(groups, ious) / np.bincount(groups)).mean())


def resized(boxes: np.ndarray, image_size: Sequence[int], keep_ratio: bool) -> np.ndarray:
    """Scales boxes as the resizing of their images does.

    Args:
        boxes: (N, 7) of :meth:`~edgenext_mm.datasets.custom.layout.CustomData.boxes`.
        image_size: Width and height of the input in pixels.
        keep_ratio: Whether images keep their aspect ratio. Otherwise they are stretched.

    Returns:
        (N, 5) centre x and y, width and height in pixels of the input, and the class.
    """
    scale = np.asarray(image_size, float) / boxes[:, 4:6]
    if keep_ratio:
        scale = scale.min(1, keepdims=True).repeat(2, 1)
    return np.concatenate([boxes[:, :4] * np.tile(scale, 2), boxes[:, 6:]], 1)


def _few(boxes: np.ndarray) -> np.ndarray:
    return boxes[:: max(1, len(boxes) // _MAX_BOXES)]


def ssd_map_sizes(image_size: Sequence[int]) -> list[tuple[int, int]]:
    """Returns width and height of the maps of SSDLite, whose first two have strides 16 and 32."""
    maps = [tuple(-(-n // stride) for n in image_size) for stride in (16, 32)]
    while len(maps) < NUM_SSD_LEVELS:
        maps.append(tuple((n + 1) // 2 for n in maps[-1]))
    return [(w, h) for w, h in maps]


def ssd_shapes(sizes: Sequence[float]) -> list[np.ndarray]:
    """Returns the anchors of SSDLite for each map, (A, 2): width and height in the unit of sizes.

    Args:
        sizes: One more than there are maps, increasing. Each map has square anchors of its own size
            and of the geometric mean with the next one, and elongated ones of its own size.
    """
    shapes = []
    for small, large, ratios in zip(sizes[:-1], sizes[1:], SSD_RATIOS, strict=True):
        shape = [(small, small), ((small * large) ** 0.5,) * 2]
        for ratio in ratios:
            root = ratio**0.5
            shape += [(small * root, small / root), (small / root, small * root)]
        shapes.append(np.array(shape))
    return shapes


def best_ious(
    boxes: np.ndarray,
    shapes: Sequence[np.ndarray],
    strides: Sequence[Sequence[float]],
    center_offset: float,
) -> np.ndarray:
    """Returns the IoU of each box with its best anchor.

    Args:
        boxes: (N, 5) of :func:`resized`.
        shapes: For each map, (A, 2) width and height of its anchors in pixels.
        strides: For each map, the distance of its anchors in x and y, in pixels.
        center_offset: Distance of the first anchor from the corner of the image, in strides.

    Returns:
        (N,) values from 0 to 1.
    """
    best = np.zeros(len(boxes))
    centres, sizes = boxes[:, None, :2], boxes[:, None, 2:4]
    for shape, stride in zip(shapes, strides, strict=True):
        step = np.asarray(stride, float)
        # From the nearest anchor; the IoU depends on the absolute distances only.
        offset = np.abs((centres / step - center_offset + 0.5) % 1 - 0.5) * step
        overlap = np.minimum(np.minimum((sizes + shape) / 2 - offset, sizes), shape).clip(0)
        area = overlap.prod(2)
        union = sizes.prod(2) + shape.prod(1) - area
        best = np.maximum(best, (area / union).max(1))
    return best


def ssd_ious(boxes: np.ndarray, sizes: Sequence[float], image_size: Sequence[int]) -> np.ndarray:
    """Returns the IoU of each box with its best anchor of SSDLite.

    Args:
        boxes: (N, 5) of :func:`resized`.
        sizes: Anchor sizes as fractions of the input's width; one more than there are maps.
        image_size: Width and height of the input in pixels.
    """
    maps = ssd_map_sizes(image_size)
    strides = [(image_size[0] / w, image_size[1] / h) for w, h in maps]
    return best_ious(boxes, [s * image_size[0] for s in ssd_shapes(sizes)], strides, 0.5)


def fit_ssd_sizes(boxes: np.ndarray, image_size: Sequence[int]) -> tuple[float, ...]:
    """Fits the anchor sizes of SSDLite to boxes.

    Each size in turn is moved by smaller and smaller steps as long as the mean IoU grows; the
    start is the paper's sizes, or quantiles of the sizes of the boxes if they are better.

    Args:
        boxes: (N, 5) of :func:`resized`.
        image_size: Width and height of the input in pixels.

    Returns:
        Increasing sizes as fractions of the input's width; the paper's without boxes.
    """
    if not len(boxes):
        return SSD_SIZES
    boxes = _few(boxes)

    def quality(sizes: Sequence[float]) -> float:
        return mean_iou(ssd_ious(boxes, sizes, image_size), boxes[:, 4])

    areas = np.sqrt(boxes[:, 2:4].prod(1)) / image_size[0]
    quantiles: Any = np.quantile(areas, np.linspace(0.05, 0.95, NUM_SSD_LEVELS + 1))
    sizes = max([list(SSD_SIZES), _increasing(quantiles.tolist())], key=quality)
    best, step = quality(sizes), 1.4
    while step > 1.02:
        improved = False
        for index in range(len(sizes)):
            for factor in (step, 1 / step):
                trial = list(sizes)
                trial[index] *= factor
                trial = _increasing(trial)
                found = quality(trial)
                if found > best + 1e-6:
                    best, sizes, improved = found, trial, True
        if not improved:
            step = step**0.5
    return tuple(round(size, 4) for size in sizes)


def _increasing(sizes: Sequence[float]) -> list[float]:
    """Limits sizes to the allowed range and makes each larger than the one before it."""
    low, high = _SIZE_RANGE
    result: list[float] = []
    for size in sizes:
        least = result[-1] * _MIN_STEP if result else low
        result.append(max(min(size, high), least))
    return result


def fpn_ious(
    boxes: np.ndarray,
    scale: float,
    strides: Sequence[int] = FPN_STRIDES,
    ratios: Sequence[float] = (1.0,),
) -> np.ndarray:
    """Returns the IoU of each box with its best anchor of a detector with an FPN.

    Args:
        boxes: (N, 5) of :func:`resized`.
        scale: Side of a square anchor divided by the stride of its map.
        strides: Strides of the maps.
        ratios: Height divided by width of the anchors.
    """
    roots = np.sqrt(np.asarray(ratios, float))
    unit = np.stack([1 / roots, roots], 1) * scale
    return best_ious(boxes, [unit * stride for stride in strides], [(s, s) for s in strides], 0.0)


def fit_fpn_scale(
    boxes: np.ndarray,
    default: float,
    strides: Sequence[int] = FPN_STRIDES,
    ratios: Sequence[float] = (1.0,),
) -> float:
    """Fits the scale of a detector's anchors to boxes: 1 to 8 times the stride, in steps of 0.5.

    Args:
        boxes: (N, 5) of :func:`resized`.
        default: The scale that is returned without boxes, or if no other one is better.
        strides: Strides of the maps.
        ratios: Height divided by width of the anchors.
    """
    if not len(boxes):
        return default
    boxes = _few(boxes)

    def quality(scale: float) -> float:
        return mean_iou(fpn_ious(boxes, scale, strides, ratios), boxes[:, 4])

    return max([default, *np.arange(1, 8.5, 0.5).tolist()], key=quality)
