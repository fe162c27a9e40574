"""Average precision of rotated boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class RotatedBoxes:
    """The boxes of one class in one image.

    Args:
        found: (N, 5) predicted boxes: centre, width and height in pixels, angle in radians.
        scores: (N,).
        true: (M, 5) true boxes.
        ignored: (K, 5) boxes for which a prediction is neither right nor wrong.
    """

    found: np.ndarray
    scores: np.ndarray
    true: np.ndarray
    ignored: np.ndarray


class RotatedPrecision(NamedTuple):
    """The result of one class.

    Args:
        ap: Average precision, 0 to 1; -1 without true boxes.
        num_true: Number of true boxes.
        num_found: Number of predictions.
        recall: Share of the true boxes that were found, at the lowest score.
    """

    ap: float
    num_true: int
    num_found: int
    recall: float


def rotated_average_precision(
    images: Sequence[RotatedBoxes], min_iou: float = 0.5, mode: str = '11points'
) -> RotatedPrecision:
    """Computes the average precision of one class, as mmrotate's ``DOTAMetric`` does.

    Args:
        images: The boxes of the class in each image.
        min_iou: IoU from which a prediction is right. Default: 0.5.
        mode: ``'11points'`` (VOC 2007, DOTA) or ``'area'``. Default: ``'11points'``.
    """
    from mmdet.evaluation.functional.mean_ap import average_precision
    from mmrotate.evaluation.functional.mean_ap import tpfp_default

    right, wrong, scores = [], [], []
    for image in images:
        rows = np.concatenate([image.found, image.scores[:, None]], 1).reshape(-1, 6)
        image_right, image_wrong = tpfp_default(
            rows.astype(np.float32),
            image.true.astype(np.float32),
            image.ignored.astype(np.float32),
            iou_thr=min_iou,
        )
        right.append(image_right[0])
        wrong.append(image_wrong[0])
        scores.append(image.scores)
    num_true = sum(len(image.true) for image in images)
    order = np.argsort(-np.concatenate(scores))
    hits, misses = (np.cumsum(np.concatenate(values)[order]) for values in (right, wrong))
    recall = hits / max(num_true, 1)
    precision = hits / np.maximum(hits + misses, 1)
    ap = float(average_precision(recall, precision, mode)) if num_true else -1.0
    return RotatedPrecision(ap, num_true, len(order), float(recall[-1]) if len(recall) else 0.0)


def mean_ap(classes: Sequence[RotatedPrecision]) -> float:
    """Returns the mean over the classes with true boxes; 0 if there are none."""
    present = [found.ap for found in classes if found.num_true]
    return float(np.mean(present)) if present else 0.0
