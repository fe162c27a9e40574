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
- An image in a list that cannot be read or processed: ``error`` (str), the reason.

Pixels are those of the image as the config's loading step reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..datasets.images import ImageSource
from ..errors import UserError

Result = dict[str, Any]


def to_result(
    sample: Any,
    dataset_meta: Mapping[str, Any],
    score_thr: float = 0.0,
    multi_label: bool = False,
) -> Result:
    """Converts the prediction in an OpenMMLab data sample to a result.

    Args:
        sample: A data sample of mmpretrain, mmdet, mmseg or mmrotate.
        dataset_meta: Metadata of the data set, with ``classes`` if they are known.
        score_thr: Minimum score of boxes. Default: 0.
        multi_label: Whether an image may have any number of labels. A sample with zero or several
            labels is always treated as multi-label. Default: False.

    Raises:
        UserError: If the sample holds the prediction of another task.
    """
    classes = dataset_meta.get('classes')
    if 'pred_score' in sample and 'pred_label' in sample:
        if sample.pred_label.is_floating_point():
            raise UserError(
                'The head predicts numbers instead of classes (regression), which is not '
                'supported. Use a classifier, detector, rotated detector or semantic segmentor, or '
                'call `model.test_step` yourself.'
            )
        scores = _array(sample.pred_score)
        result = _labelled(sample.pred_label, classes, multi_label)
        if 'pred_label' in result:
            result['pred_score'] = float(scores[result['pred_label']])
        return dict(**result, pred_scores=scores)
    if 'pred_sem_seg' in sample:
        return _segmentation(sample.pred_sem_seg.data, classes)
    if 'pred_instances' in sample:
        instances = sample.pred_instances
        order = instances.scores.argsort(descending=True, stable=True)
        instances = instances[order[instances.scores[order] >= score_thr]]
        return dict(**_detection(instances, classes), scores=_array(instances.scores))
    raise UserError(
        f'A {type(sample).__name__} with {", ".join(sample.keys()) or "no prediction"} is not '
        'supported. Use a classifier of one task, a detector, a rotated detector or a semantic '
        'segmentor, or call `model.test_step` yourself.'
    )


def to_truth(sample: Any, dataset_meta: Mapping[str, Any], multi_label: bool = False) -> Result:
    """Converts the ground truth in an OpenMMLab data sample to a result.

    Args:
        sample: A data sample of a data set.
        dataset_meta: Metadata of the data set, with ``classes`` if they are known.
        multi_label: Whether an image may have any number of labels. Default: False.

    Raises:
        UserError: If the sample holds no ground truth.
    """
    classes = dataset_meta.get('classes')
    if 'gt_label' in sample:
        return _labelled(sample.gt_label, classes, multi_label)
    # mmdet's samples can hold both instances and a mask, and empty instances.
    if 'gt_instances' in sample and 'bboxes' in sample.gt_instances:
        return _detection(sample.gt_instances, classes)
    if 'gt_sem_seg' in sample:
        return _segmentation(sample.gt_sem_seg.data, classes)
    raise UserError(
        f'This pipeline returns a {type(sample).__name__} without annotations. Add a step that '
        'loads them, such as LoadAnnotations.'
    )


def _labelled(labels: torch.Tensor, classes: Sequence[str] | None, multi_label: bool) -> Result:
    numbers = _array(labels)
    if multi_label or len(numbers) != 1:
        result: Result = dict(pred_labels=numbers)
        return result if classes is None else dict(**result, pred_classes=_names(numbers, classes))
    result = dict(pred_label=int(numbers[0]))
    return result if classes is None else dict(**result, pred_class=_names(numbers, classes)[0])


def _names(labels: Iterable[int], classes: Sequence[str]) -> list[str]:
    """Returns the names of classes, or the number of a class without a name."""
    return [str(classes[i]) if 0 <= i < len(classes) else str(i) for i in map(int, labels)]


def _segmentation(data: torch.Tensor, classes: Sequence[str] | None) -> Result:
    sem_seg: np.ndarray = _array(data).squeeze(0).astype(int)  # binary segmentors return floats
    result: Result = dict(sem_seg=sem_seg)
    return result if classes is None else dict(**result, classes=tuple(classes))


def _detection(instances: Any, classes: Sequence[str] | None) -> Result:
    labels = _array(instances.labels)
    result: Result = dict(bboxes=_array(instances.bboxes), labels=labels)
    if classes is not None:
        result['classes'] = _names(labels, classes)
    if 'masks' in instances:
        masks = instances.masks  # mmdet's BitmapMasks in ground truth, a tensor in predictions
        masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)
        result['masks'] = masks > 0
    return result


def _array(values: Any) -> np.ndarray:
    """Converts a tensor, or mmdet's boxes around one, to an array; floats become float32."""
    values = getattr(values, 'tensor', values).detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


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
    names = _names(labels, result.get('classes', ()))
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
