"""Predictions and ground truth of OpenMMLab as :mod:`~edgenext_mm.runtime.results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..runtime.results import Result, class_names


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
        return (
            result
            if classes is None
            else dict(**result, pred_classes=class_names(numbers, classes))
        )
    result = dict(pred_label=int(numbers[0]))
    return (
        result if classes is None else dict(**result, pred_class=class_names(numbers, classes)[0])
    )


def _segmentation(data: torch.Tensor, classes: Sequence[str] | None) -> Result:
    sem_seg: np.ndarray = _array(data).squeeze(0).astype(int)  # binary segmentors return floats
    result: Result = dict(sem_seg=sem_seg)
    return result if classes is None else dict(**result, classes=tuple(classes))


def _detection(instances: Any, classes: Sequence[str] | None) -> Result:
    labels = _array(instances.labels)
    result: Result = dict(bboxes=_array(instances.bboxes), labels=labels)
    if classes is not None:
        result['classes'] = class_names(labels, classes)
    if 'masks' in instances:
        masks = instances.masks  # mmdet's BitmapMasks in ground truth, a tensor in predictions
        masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)
        result['masks'] = masks > 0
    return result


def _array(values: Any) -> np.ndarray:
    """Converts a tensor, or mmdet's boxes around one, to an array; floats become float32."""
    values = getattr(values, 'tensor', values).detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()
