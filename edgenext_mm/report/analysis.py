"""The numbers of a report, from predictions and ground truth: plain dicts, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import detection
from .curves import Calibration, ScoreCurve
from .predictions import Collected

#: Coverage curve: thresholds for classifiers.
_CONFIDENT = 0.99


def analyse(collected: Collected, classes: Sequence[str]) -> dict[str, Any]:
    """Computes the numbers of a report.

    Args:
        collected: Predictions and ground truth.
        classes: Class names.

    Returns:
        ``overall`` (metrics by name), ``classes`` (a row of numbers per class), ``confusion`` with
        its ``labels``, ``calibration``, and, depending on the task, ``curve``, ``threshold``,
        ``errors`` and ``sizes``. docs/report.md describes them.
    """
    if collected.task == 'classification':
        return _classification(collected, classes)
    if collected.task == 'segmentation':
        return _segmentation(collected, classes)
    return _detection(collected, classes)


def _classification(collected: Collected, classes: Sequence[str]) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, confusion_matrix
    from sklearn.metrics import precision_recall_fscore_support as per_class_scores

    truth = np.array([image.label for image in collected.images])
    scores = np.stack([image.scores for image in collected.images]).astype(float)
    found, labels = scores.argmax(1), range(scores.shape[1])
    right = found == truth
    precision, recall, f1, support = per_class_scores(
        truth, found, labels=list(labels), zero_division=0.0
    )
    rows = []
    for label in labels:
        own = truth == label
        ap = average_precision_score(own, scores[:, label]) if own.any() else float('nan')
        rows.append(
            {
                'class': _name(classes, label),
                'images': int(support[label]),
                'precision': precision[label],
                'recall': recall[label],
                'F1': f1[label],
                'AP': ap,
            }
        )
    order = np.argsort(-scores, 1)
    top5 = (order[:, :5] == truth[:, None]).any(1).mean() if len(labels) > 5 else None
    confidence = scores.max(1)
    curve = ScoreCurve.of(confidence, right, len(right))
    accepted = curve.thresholds[curve.precision >= _CONFIDENT]
    present = support > 0
    return dict(
        overall={
            'accuracy': right.mean(),
            **({'top-5 accuracy': top5} if top5 is not None else {}),
            'macro F1': f1[present].mean(),
            'macro recall': recall[present].mean(),
        },
        classes=rows,
        confusion=dict(
            labels=[_name(classes, label) for label in labels],
            counts=confusion_matrix(truth, found, labels=list(labels)).tolist(),
        ),
        curve=curve.thinned(),
        threshold=dict(
            # Rounded down, so that the score itself counts when it is printed.
            value=float(np.floor(accepted.min() * 1e4) / 1e4) if len(accepted) else None,
            accuracy=_CONFIDENT,
            share=float((confidence >= accepted.min()).mean()) if len(accepted) else 0.0,
        ),
        calibration=_as_dict(Calibration.of(confidence, right)),
    )


def _segmentation(collected: Collected, classes: Sequence[str]) -> dict[str, Any]:
    pixels = collected.pixels
    assert pixels is not None
    per_class, true = pixels.per_class(), pixels.confusion.sum(1)
    rows = [
        {
            'class': _name(classes, label),
            'pixels': int(true[label]),
            'share': true[label] / max(true.sum(), 1),
            'IoU': per_class['iou'][label],
            'recall': per_class['recall'][label],
            'precision': per_class['precision'][label],
        }
        for label in range(len(true))
    ]
    calibration = pixels.calibration()
    return dict(
        overall=pixels.overall(),
        classes=rows,
        confusion=dict(
            labels=[_name(classes, i) for i in range(len(true))], counts=pixels.confusion.tolist()
        ),
        calibration=None if calibration is None else _as_dict(calibration),
    )


def _detection(collected: Collected, classes: Sequence[str]) -> dict[str, Any]:
    images, num_classes = collected.images, len(classes)
    matches = detection.Matches.of(images)
    curve = ScoreCurve.of(matches.scores, matches.right, len(matches.true_labels))
    threshold, f1 = curve.best()
    rotated = collected.task == 'rotated_detection'
    measure = detection.rotated_average_precision if rotated else detection.average_precision
    overall = measure(images, num_classes)
    rows = []
    for label, ap in enumerate(overall.pop('per_class')):
        own = matches.of_class(label)
        own_curve = ScoreCurve.of(own.scores, own.right, len(own.true_labels))
        at_most = min(threshold, 1.0)
        count = int((own_curve.thresholds >= at_most).sum())
        row = {
            'class': _name(classes, label),
            'objects': len(own.true_labels),
            **(dict(AP50=ap) if rotated else dict(AP=ap[0], AP50=ap[1])),
            'precision': own_curve.precision[count - 1] if count else 0.0,
            'recall': own_curve.recall[count - 1] if count else 0.0,
            'F1': own_curve.f1_at(threshold),
        }
        best, best_f1 = own_curve.best()
        row |= {'best threshold': best if best_f1 else None, 'best F1': best_f1}
        rows.append(row)
    sizes = []
    for name, (low, high) in detection.SIZES.items():
        own = (matches.true_areas >= low) & (matches.true_areas < high)
        hits = matches.true_scores[own] >= threshold
        size = dict(size=name, objects=int(own.sum()), recall=hits.mean() if own.any() else None)
        if not rotated:
            size['AP'] = overall.pop(f'AP{name[0]}')
        sizes.append(size)
    return dict(
        overall=dict(overall, **{'F1 at the best threshold': f1, 'F1 at 0.3': curve.f1_at(0.3)}),
        classes=rows,
        confusion=dict(
            labels=[*(_name(classes, i) for i in range(num_classes)), '(background)'],
            counts=detection.confusion(images, num_classes, threshold).tolist(),
        ),
        curve=curve.thinned(),
        threshold=dict(value=threshold, f1=f1, f1_at_03=curve.f1_at(0.3)),
        errors=detection.count_errors(images, threshold),
        sizes=sizes,
        calibration=_as_dict(Calibration.of(matches.scores, matches.right)),
    )


def worst_images(
    collected: Collected, threshold: float | None, count: int
) -> list[tuple[float, str]]:
    """Returns the images with the lowest scores, and their scores, worst first.

    The score is the predicted probability of the true class, the share of right pixels, or F1 of
    the objects at a threshold; of images with the same F1, those with more objects come first.
    """
    scored = []
    for image in collected.images:
        if collected.task == 'classification':
            key: tuple[float, int] = (float(image.scores[image.label]), 0)
        elif collected.task == 'segmentation':
            key = (image.accuracy, 0)
        else:
            key = (detection.image_f1(image, threshold or 0.0), -len(image.truth))
        scored.append((key, image.path))
    return [(key[0], path) for key, path in sorted(scored)[:count]]


def _name(classes: Sequence[str], label: int) -> str:
    return str(classes[label]) if label < len(classes) else str(label)


def _as_dict(calibration: Calibration) -> dict[str, Any]:
    return dict(
        counts=calibration.counts.tolist(),
        scores=calibration.scores.round(4).tolist(),
        right=calibration.right.round(4).tolist(),
        error=calibration.error,
    )
