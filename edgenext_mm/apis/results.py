"""What is in an image, as plain arrays: predicted by a model of any task, or the ground truth.

A result is a dict. Its keys, by task, the names of classes left out where nobody knows them:

- classification: ``pred_label`` (int), ``pred_class`` (str); of a prediction also ``pred_score``
  (float) and ``pred_scores``, (num_classes,) float;
- multi-label classification: ``pred_labels``, (K,) int, all labels that the head says an image
  has, by its threshold or number of labels; K may be 0; ``pred_classes``, K names; of a prediction
  also ``pred_scores``, (num_classes,) float, each from 0 to 1 on its own;
- detection: ``bboxes``, (N, 4) float x1, y1, x2, y2 in pixels of the image, or (N, 5) centre x
  and y, width, height and angle (radians, clockwise) of rotated boxes, or (N, 8) their corners;
  ``labels``, (N,) int; ``classes``, N names; ``masks``, (N, H, W) bool, of instance segmentation;
  of a prediction also ``scores``, (N,) float, in decreasing order;
- segmentation: ``sem_seg``, (H, W) int, and ``classes``, the names of all its values;
- an image in a list that could not be read or processed: ``error`` (str), the reason.

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
    """The result in an OpenMMLab data sample that a model returned.

    Args:
        sample: A data sample of mmpretrain, mmdet, mmseg or mmrotate.
        dataset_meta: With ``classes``, where they are known.
        score_thr: Boxes of lower scores are left out. Default: 0.
        multi_label: Whether an image may have any number of labels. A sample with none or several
            is of that kind in any case. Default: False.

    Raises:
        UserError: If it holds the results of none of the tasks.
    """
    classes = dataset_meta.get('classes')
    if 'pred_score' in sample and 'pred_label' in sample:
        if sample.pred_label.is_floating_point():
            raise UserError(
                'The head predicts numbers, not classes (regression). Results of classifiers, '
                'detectors, rotated detectors and semantic segmentors are known.'
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
        f'Results of the kind {type(sample).__name__} with {", ".join(sample.keys()) or "nothing"} '
        'are not known. Give the config of a classifier of one task, a detector, a rotated '
        'detector or a semantic segmentor; for others, use `model.test_step` yourself.'
    )


def to_truth(sample: Any, dataset_meta: Mapping[str, Any], multi_label: bool = False) -> Result:
    """The ground truth in an OpenMMLab data sample, in the form of a result.

    Args:
        sample: A data sample of a data set.
        dataset_meta: As for :func:`to_result`.
        multi_label: As for :func:`to_result`.

    Raises:
        UserError: If it holds none.
    """
    classes = dataset_meta.get('classes')
    if 'gt_label' in sample:
        return _labelled(sample.gt_label, classes, multi_label)
    # mmdet's samples can hold both, and empty ones.
    if 'gt_instances' in sample and 'bboxes' in sample.gt_instances:
        return _detection(sample.gt_instances, classes)
    if 'gt_sem_seg' in sample:
        return _segmentation(sample.gt_sem_seg.data, classes)
    raise UserError(f'A {type(sample).__name__} of this pipeline holds no annotation to show.')


def _labelled(labels: torch.Tensor, classes: Sequence[str] | None, multi_label: bool) -> Result:
    numbers = _array(labels)
    if multi_label or len(numbers) != 1:
        result: Result = dict(pred_labels=numbers)
        return result if classes is None else dict(**result, pred_classes=_names(numbers, classes))
    result = dict(pred_label=int(numbers[0]))
    return result if classes is None else dict(**result, pred_class=_names(numbers, classes)[0])


def _names(labels: Iterable[int], classes: Sequence[str]) -> list[str]:
    """The names of classes; the number of one that has no name."""
    return [str(classes[i]) if 0 <= i < len(classes) else str(i) for i in map(int, labels)]


def _segmentation(data: torch.Tensor, classes: Sequence[str] | None) -> Result:
    # That of one channel and a threshold is of floats.
    sem_seg: np.ndarray = _array(data).squeeze(0).astype(int)
    return (
        dict(sem_seg=sem_seg) if classes is None else dict(sem_seg=sem_seg, classes=tuple(classes))
    )


def _detection(instances: Any, classes: Sequence[str] | None) -> Result:
    labels = _array(instances.labels)
    result: Result = dict(bboxes=_array(instances.bboxes), labels=labels)
    if classes is not None:
        result['classes'] = _names(labels, classes)
    if 'masks' in instances:
        masks = instances.masks
        result['masks'] = (
            masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)
        ) > 0
    return result


def _array(values: Any) -> np.ndarray:
    """Tensors, and the boxes of mmdet that wrap one, as NumPy arrays; floats in 32 bits."""
    values = getattr(values, 'tensor', values).detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def is_class(result: Result) -> bool:
    """Whether a result is no more than the image's class or classes."""
    return 'pred_label' in result or 'pred_labels' in result


def class_name(result: Result) -> str:
    """The class or classes of a classified image, or their numbers where no name is known."""
    if 'pred_labels' in result:
        return ', '.join(map(str, _label_names(result))) or 'none'
    return str(result['pred_class'] if 'pred_class' in result else result['pred_label'])


def _label_names(result: Result) -> Sequence[Any]:
    return result['pred_classes'] if 'pred_classes' in result else result['pred_labels']


def label_scores(result: Result) -> list[tuple[str, float]]:
    """The classes that a multi-label prediction gives an image and their scores, highest first."""
    labels = result['pred_labels']
    names = map(str, _label_names(result))
    pairs = zip(names, result['pred_scores'][labels].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def object_names(result: Result) -> list[str]:
    """The class of each detected object, or its number where no name is known."""
    return [str(name) for name in result['classes' if 'classes' in result else 'labels']]


def to_text(source: ImageSource, result: Result) -> str:
    """A result in one line."""
    if 'error' in result:
        found = f'failed: {result["error"]}'
    elif 'sem_seg' in result:
        found = ', '.join(f'{name} {share:.1%}' for name, share in shares(result).items())
    elif 'bboxes' in result or 'pred_labels' in result:
        objects = (
            zip(object_names(result), result['scores'], strict=True)
            if 'bboxes' in result
            else label_scores(result)
        )
        found = ', '.join(f'{name} ({score:.0%})' for name, score in objects) or 'nothing'
    else:
        found = f'{class_name(result)} ({result["pred_score"]:.1%})'
    return f'{source}: {found}'


def shares(result: Result) -> dict[str, float]:
    """What part of a segmented image belongs to each class in it, largest first."""
    labels, counts = np.unique(result['sem_seg'], return_counts=True)
    names = _names(labels, result.get('classes', ()))
    order = counts.argsort(kind='stable')[::-1]
    return {names[i]: float(counts[i] / counts.sum()) for i in order}


def to_json(source: ImageSource, result: Result) -> dict[str, Any]:
    """A result as JSON can hold it, with the name of its image.

    Masks become COCO's uncompressed run lengths, those of a segmented image one for each of its
    values: ``{"size": [H, W], "counts": [...]}``.
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
    """Lengths of alternating runs of zeros and ones down the columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    starts = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return dict(size=list(mask.shape), counts=counts.tolist())
