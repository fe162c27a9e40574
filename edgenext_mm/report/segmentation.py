"""Metrics of semantic segmentation, from counts of pixels."""

from __future__ import annotations

import numpy as np

from .curves import NUM_BINS, Calibration


class PixelCounts:
    """Counts pixels by true and predicted class.

    Args:
        num_classes: Number of classes.

    Attributes:
        confusion: (num_classes, num_classes) int64: true classes in rows.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion: np.ndarray = np.zeros((num_classes, num_classes), np.int64)
        self._bins: np.ndarray = np.zeros((3, NUM_BINS))

    def add(
        self,
        truth: np.ndarray,
        found: np.ndarray,
        ignore_index: int,
        confidence: np.ndarray | None = None,
    ) -> float:
        """Counts the pixels of an image.

        Args:
            truth: (H, W) true classes.
            found: (H, W) predicted classes.
            ignore_index: Value of true pixels that do not count.
            confidence: (H, W) scores of the predictions, if they are known.

        Returns:
            The share of right pixels; 1 if none counts.
        """
        num_classes = len(self.confusion)
        valid = truth != ignore_index
        truth, found = truth[valid].astype(np.int64), found[valid].astype(np.int64)
        pairs = np.bincount(truth * num_classes + found, minlength=num_classes**2)
        self.confusion += pairs.reshape(num_classes, num_classes)
        right = truth == found
        if confidence is not None:
            scores = confidence[valid].astype(float)
            bins = (scores * NUM_BINS).astype(int).clip(0, NUM_BINS - 1)
            for total, weights in zip(self._bins, (None, scores, right), strict=True):
                total += np.bincount(bins, weights, NUM_BINS)
        return float(right.mean()) if len(right) else 1.0

    def calibration(self) -> Calibration | None:
        """Returns the calibration of the pixels' scores; None if no scores are known."""
        return Calibration.of_sums(*self._bins) if self._bins[0].any() else None

    def per_class(self) -> dict[str, np.ndarray]:
        """Returns IoU, recall (mmseg's ``Acc``) and precision per class, NaN where undefined."""
        hits = np.diag(self.confusion).astype(float)
        true, found = self.confusion.sum(1), self.confusion.sum(0)
        with np.errstate(invalid='ignore', divide='ignore'):
            return dict(
                iou=hits / (true + found - hits), recall=hits / true, precision=hits / found
            )

    def overall(self) -> dict[str, float]:
        """Returns mean IoU, mean recall and the share of right pixels."""
        per_class = self.per_class()
        total = max(self.confusion.sum(), 1)
        return dict(
            mIoU=float(np.nanmean(per_class['iou'])),
            mAcc=float(np.nanmean(per_class['recall'])),
            aAcc=float(np.diag(self.confusion).sum() / total),
        )
