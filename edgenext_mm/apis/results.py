"""What is in an image, as plain arrays: predicted by a model of any task, or the ground truth.

A result is a dict. Its keys, by task, the names of classes left out where nobody knows them:

- classification: ``pred_label`` (int), ``pred_class`` (str); of a prediction also ``pred_score``
  (float) and ``pred_scores``, (num_classes,) float;
- detection: ``bboxes``, (N, 4) float x1, y1, x2, y2 in pixels of the image, or (N, 5) centre x
  and y, width, height and angle (radians, clockwise) of rotated boxes; ``labels``, (N,) int;
  ``classes``, N names; ``masks``, (N, H, W) bool, of instance segmentation; of a prediction also
  ``scores``, (N,) float, in falling order;
- segmentation: ``sem_seg``, (H, W) int, and ``classes``, the names of all its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .images import ImageSource

Result = dict[str, Any]


def to_result(sample: Any, dataset_meta: Mapping[str, Any], score_thr: float = 0.0) -> Result:
    """The result in an OpenMMLab data sample that a model returned.

    Args:
        sample: A data sample of mmpretrain, mmdet, mmseg or mmrotate.
        dataset_meta: With ``classes``, where they are known.
        score_thr: Boxes of lower scores are left out. Default: 0.

    Raises:
        UserError: If it holds the results of none of the tasks.
    """
    classes = dataset_meta.get('classes')
    if 'pred_score' in sample:
        scores = _array(sample.pred_score.float())
        label = int(scores.argmax())
        result = dict(**_named_label(label, classes), pred_score=float(scores[label]))
        return dict(**result, pred_scores=scores)
    if 'pred_sem_seg' in sample:
        return _segmentation(sample.pred_sem_seg.data, classes)
    if 'pred_instances' in sample:
        instances = sample.pred_instances
        order = instances.scores.argsort(descending=True, stable=True)
        instances = instances[order[instances.scores[order] >= score_thr]]
        return dict(**_detection(instances, classes), scores=_array(instances.scores.float()))
    raise UserError(
        f'Results of the kind {type(sample).__name__} are not known. Give the config of a '
        'classifier, detector, rotated detector or semantic segmentor.'
    )


def to_truth(sample: Any, dataset_meta: Mapping[str, Any]) -> Result:
    """The ground truth in an OpenMMLab data sample, in the form of a result.

    Raises:
        UserError: If it holds none.
    """
    classes = dataset_meta.get('classes')
    if 'gt_label' in sample:
        return _named_label(int(sample.gt_label[0]), classes)
    # mmdet's samples can hold both, and empty ones.
    if 'gt_instances' in sample and 'bboxes' in sample.gt_instances:
        return _detection(sample.gt_instances, classes)
    if 'gt_sem_seg' in sample:
        return _segmentation(sample.gt_sem_seg.data, classes)
    raise UserError(f'A {type(sample).__name__} of this pipeline holds no annotation to show.')


def _named_label(label: int, classes: Sequence[str] | None) -> Result:
    return (
        dict(pred_label=label)
        if classes is None
        else dict(pred_label=label, pred_class=classes[label])
    )


def _segmentation(data: torch.Tensor, classes: Sequence[str] | None) -> Result:
    sem_seg = _array(data).squeeze(0)
    return (
        dict(sem_seg=sem_seg) if classes is None else dict(sem_seg=sem_seg, classes=tuple(classes))
    )


def _detection(instances: Any, classes: Sequence[str] | None) -> Result:
    labels = _array(instances.labels)
    result: Result = dict(bboxes=_array(instances.bboxes), labels=labels)
    if classes is not None:
        result['classes'] = [classes[label] for label in labels]
    if 'masks' in instances:
        masks = instances.masks
        result['masks'] = (
            masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)
        ) > 0
    return result


def _array(values: Any) -> np.ndarray:
    """Tensors, and the boxes of mmdet that wrap one, as NumPy arrays."""
    return getattr(values, 'tensor', values).detach().cpu().numpy()


def class_name(result: Result) -> str:
    """The class of a classified image, or its number where no name is known."""
    return str(result['pred_class'] if 'pred_class' in result else result['pred_label'])


def object_names(result: Result) -> list[str]:
    """The class of each detected object, or its number where no name is known."""
    return [str(name) for name in result['classes' if 'classes' in result else 'labels']]


def to_text(source: ImageSource, result: Result) -> str:
    """A result in one line."""
    if 'sem_seg' in result:
        found = ', '.join(f'{name} {share:.1%}' for name, share in shares(result).items())
    elif 'bboxes' in result:
        objects = zip(object_names(result), result['scores'], strict=True)
        found = ', '.join(f'{name} ({score:.0%})' for name, score in objects) or 'nothing'
    else:
        found = f'{class_name(result)} ({result["pred_score"]:.1%})'
    return f'{source}: {found}'


def shares(result: Result) -> dict[str, float]:
    """What part of a segmented image belongs to each class in it, largest first."""
    labels, counts = np.unique(result['sem_seg'], return_counts=True)
    names = result.get('classes')
    order = counts.argsort(kind='stable')[::-1]
    return {
        str(names[labels[i]] if names else labels[i]): float(counts[i] / counts.sum())
        for i in order
    }


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
