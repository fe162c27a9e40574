"""Precision, recall, thresholds and calibration of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15
_MAX_POINTS = 200


@dataclass
class ScoreCurve:
    """Precision and recall over all thresholds of a score, from the highest score on.

    Args:
        thresholds: (N,) decreasing scores; a prediction counts if its score is at least this.
        precision: (N,) share of right ones among the predictions that count.
        recall: (N,) share of the true objects that are found.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, right: np.ndarray, num_true: int) -> ScoreCurve:
        """Computes the curve.

        Args:
            scores: (N,) scores of predictions.
            right: (N,) whether each is right.
            num_true: Number of true objects.
        """
        order = np.argsort(-scores, kind='stable')
        scores, hits = scores[order], np.cumsum(right[order])
        last = np.append(np.diff(scores) != 0, True) if len(scores) else np.empty(0, bool)
        counts = np.arange(1, len(scores) + 1)[last]
        hits = hits[last]
        return cls(scores[last], hits / counts, hits / max(num_true, 1))

    @property
    def f1(self) -> np.ndarray:
        """(N,) harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total == 0, 1, total)

    def best(self) -> tuple[float, float]:
        """Returns the threshold with the best F1, rounded down to four digits, and this F1.

        Without any prediction, they are 1 and 0.
        """
        if not len(self.thresholds):
            return 1.0, 0.0
        index = int(self.f1.argmax())
        return float(np.floor(self.thresholds[index] * 1e4) / 1e4), float(self.f1[index])

    def f1_at(self, threshold: float) -> float:
        """Returns F1 if predictions with at least this score count."""
        count = int((self.thresholds >= threshold).sum())
        return float(self.f1[count - 1]) if count else 0.0

    def thinned(self) -> dict[str, list[float]]:
        """Returns at most 400 points for drawing, spread over the thresholds and over recall."""
        if not len(self.thresholds):
            return dict(threshold=[], precision=[], recall=[])
        keep = np.union1d(_spread(-self.thresholds), _spread(self.recall))
        columns = dict(threshold=self.thresholds, precision=self.precision, recall=self.recall)
        return {name: values[keep].round(4).tolist() for name, values in columns.items()}


def _spread(values: np.ndarray) -> np.ndarray:
    """Chooses positions in increasing values: one for each step of the range, and the last."""
    steps = np.linspace(values[0], values[-1], _MAX_POINTS - 1)
    return np.append(np.searchsorted(values, steps), len(values) - 1)


@dataclass
class Calibration:
    """How often predictions with a given score are right.

    Args:
        counts: Number of predictions in each of the bins from 0 to 1.
        scores: Mean score in each bin; 0 in empty ones.
        right: Share of right predictions in each bin; 0 in empty ones.
    """

    counts: np.ndarray
    scores: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, right: np.ndarray) -> Calibration:
        """Sorts predictions into 15 bins of equal width.

        Args:
            scores: (N,) scores from 0 to 1.
            right: (N,) whether each prediction is right.
        """
        bins = (scores * NUM_BINS).astype(int).clip(0, NUM_BINS - 1)
        sums = [np.bincount(bins, w, NUM_BINS) for w in (np.ones(len(bins)), scores, right)]
        return cls.of_sums(*sums)

    @classmethod
    def of_sums(cls, counts: np.ndarray, scores: np.ndarray, right: np.ndarray) -> Calibration:
        """Computes the means from sums per bin."""
        divisor = np.maximum(counts, 1)
        return cls(counts, scores / divisor, right / divisor)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): the mean difference of score and share."""
        weights = self.counts / max(self.counts.sum(), 1)
        return float((weights * np.abs(self.scores - self.right)).sum())
