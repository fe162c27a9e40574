"""Results: predictions of a model of any task, or ground truth, as plain arrays.

A result is a dict with the following keys. Keys with class names are missing if the names are
unknown.

- Classification: ``pred_label`` (int) and ``pred_class`` (str); predictions also have
  ``pred_score`` (float) and ``pred_scores``, (num_classes,) float.
- Multi-label classification: ``pred_labels``, (K,) int, all labels that the head selects by its
  threshold or number of labels (K may be 0), and ``pred_classes``, K names; predictions also have
  ``pred_scores``, (num_classes,) float, each between 0 and 1.
- Detection: ``bboxes``, (N, 4) float x1, y1, x2, y2 in pixels of the image; for rotated boxes
  (N, 5) centre x and y, width, height and angle (radians, clockwise), or (N, 8) corners;
  ``labels``, (N,) int; ``classes``, N names; with instance segmentation ``masks``, (N, H, W) bool;
  predictions also have ``scores``, (N,) float, in decreasing order.
- Segmentation: ``sem_seg``, (H, W) int, and ``classes``, the names of all its values.
- With ``features=True``: ``features``, (C,) float, the pooled feature of a classifier, or the mean
  of the last map; for other models also ``feature_maps``, a list of (C, H, W) float.
- An image in a list that cannot be read or processed: ``error`` (str), the reason.

Pixels are those of the image as the config's loading step reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .sources import ImageSource

Result = dict[str, Any]


def class_names(labels: Iterable[int], classes: Sequence[str]) -> list[str]:
    """Returns the names of classes, or the number of a class without a name."""
    return [str(classes[i]) if 0 <= i < len(classes) else str(i) for i in map(int, labels)]


def is_class(result: Result) -> bool:
    """Whether a result is a class or classes for the complete image."""
    return 'pred_label' in result or 'pred_labels' in result


def class_name(result: Result) -> str:
    """Returns the class or classes of a classified image, or their numbers without names."""
    if 'pred_labels' in result:
        return ', '.join(_label_names(result)) or 'none'
    return str(result.get('pred_class', result['pred_label']))


def _label_names(result: Result) -> list[str]:
    return [str(n) for n in result['pred_classes' if 'pred_classes' in result else 'pred_labels']]


def label_scores(result: Result) -> list[tuple[str, float]]:
    """Returns the predicted classes of a multi-label result with their scores, highest first."""
    scores = result['pred_scores'][result['pred_labels']].tolist()
    return sorted(zip(_label_names(result), scores, strict=True), key=lambda pair: -pair[1])


def object_names(result: Result) -> list[str]:
    """Returns the class of each detected object, or its number without names."""
    return [str(name) for name in result['classes' if 'classes' in result else 'labels']]


def to_text(source: ImageSource, result: Result) -> str:
    """Formats a result as one line."""
    if 'error' in result:
        found = f'failed: {result["error"]}'
    elif 'sem_seg' in result:
        found = ', '.join(f'{name} {share:.1%}' for name, share in shares(result).items())
    elif 'bboxes' in result or 'pred_labels' in result:
        if 'bboxes' in result:
            pairs = list(zip(object_names(result), result['scores'], strict=True))
        else:
            pairs = label_scores(result)
        found = ', '.join(f'{name} ({score:.0%})' for name, score in pairs) or 'nothing'
    else:
        found = f'{class_name(result)} ({result["pred_score"]:.1%})'
    return f'{source}: {found}'


def shares(result: Result) -> dict[str, float]:
    """Returns the share of each class in a segmented image, from 0 to 1, largest first."""
    labels, counts = np.unique(result['sem_seg'], return_counts=True)
    names = class_names(labels, result.get('classes', ()))
    order = counts.argsort(kind='stable')[::-1]
    return {names[i]: float(counts[i] / counts.sum()) for i in order}


def to_json(source: ImageSource, result: Result) -> dict[str, Any]:
    """Converts a result to JSON types, with the name of its image.

    Masks become uncompressed COCO run lengths, ``{"size": [H, W], "counts": [...]}``; a segmented
    image has one for each of its values.
    """
    plain: dict[str, Any] = dict(image=str(source))
    for key, value in result.items():
        if key == 'sem_seg':
            plain[key] = {int(v): _run_lengths(value == v) for v in np.unique(value)}
        elif key == 'feature_maps':
            plain[key] = [values.tolist() for values in value]
        elif key == 'masks':
            plain[key] = [_run_lengths(mask) for mask in value]
        else:
            plain[key] = value.tolist() if isinstance(value, np.ndarray) else value
    return plain


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Returns the lengths of alternating runs of zeros and ones in column order, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    starts = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return dict(size=list(mask.shape), counts=counts.tolist())
