"""Collects predictions and ground truth in the test loop of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from pycocotools import mask as coco_masks

from ..errors import UserError
from .segmentation import PixelCounts

Rle = dict[str, Any]


@dataclass
class Objects:
    """Objects in an image.

    Args:
        bboxes: (N, 4) x1, y1, x2, y2 in pixels of the image; or (N, 5) rotated boxes: centre, size
            and angle in radians.
        labels: (N,) classes.
        scores: (N,) scores of predictions; 1 for ground truth.
        ignored: (N,) whether a true object is ignored (crowds, difficult objects).
        masks: N run lengths of pycocotools, or None without masks.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray
    masks: list[Rle] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, keep: np.ndarray) -> Objects:
        """Returns the objects that a (N,) mask or index selects."""
        indices = np.arange(len(self))[keep]
        masks = None if self.masks is None else [self.masks[i] for i in indices]
        return Objects(
            self.bboxes[keep], self.labels[keep], self.scores[keep], self.ignored[keep], masks
        )


@dataclass
class Detections:
    """Predicted and true objects of an image."""

    path: str
    shape: tuple[int, int]
    truth: Objects
    found: Objects


@dataclass
class Classified:
    """Predicted and true class of an image."""

    path: str
    label: int
    scores: np.ndarray


@dataclass
class Segmented:
    """Quality of a segmented image: the share of right pixels among those that count."""

    path: str
    accuracy: float


@dataclass
class Collected:
    """What was predicted for a data set.

    Args:
        task: ``classification``, ``detection``, ``instance_segmentation``, ``segmentation`` or
            ``rotated_detection``.
        images: One item per image.
        pixels: Counts of pixels, for segmentation.
    """

    task: str = ''
    images: list[Any] = field(default_factory=list)
    pixels: PixelCounts | None = None


class Collector(BaseMetric):
    """Keeps predictions and ground truth of the test loop, as small as possible.

    Args:
        collected: Where they are kept.
        num_classes: Number of classes.
        ignore_index: Value of ignored pixels of masks. Default: 255.
        resized_truth: Whether the pipeline loads annotations before it resizes images, so that
            true boxes are in pixels of the resized image. Default: False.
    """

    default_prefix = 'report'

    def __init__(
        self,
        collected: Collected,
        num_classes: int,
        ignore_index: int = 255,
        resized_truth: bool = False,
    ) -> None:
        super().__init__(collect_device='cpu')
        self.collected = collected
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.resized_truth = resized_truth

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps a batch."""
        for sample in data_samples:
            path = str(sample.get('img_path') or len(self.collected.images))
            if 'pred_score' in sample:
                self._keep_class(path, sample)
            elif 'pred_sem_seg' in sample:
                self._keep_mask(path, sample)
            elif 'pred_instances' in sample:
                self._keep_objects(path, sample)
            else:
                raise UserError(
                    'The report supports classifiers of one task, detectors, rotated detectors and '
                    f'semantic segmentors; this model predicts {", ".join(sample)}.'
                )
            self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Returns no metrics."""
        return {}

    def _keep_class(self, path: str, sample: dict) -> None:
        label = _array(sample.get('gt_label', torch.empty(0)))
        scores = _array(sample['pred_score'])
        if label.size == 0:
            raise _no_truth(path)
        if label.size > 1 or scores.ndim != 1:
            raise UserError('The report supports classifiers with one label per image.')
        self.collected.task = 'classification'
        self.collected.images.append(Classified(path, int(label.ravel()[0]), scores))

    def _keep_mask(self, path: str, sample: dict) -> None:
        if 'gt_sem_seg' not in sample:
            raise _no_truth(path)
        truth = _array(sample['gt_sem_seg']['data']).squeeze()
        found = _array(sample['pred_sem_seg']['data']).squeeze()
        if self.collected.pixels is None:
            self.collected.pixels = PixelCounts(self.num_classes)
        confidence = None
        if 'seg_logits' in sample:
            logits = sample['seg_logits']['data']
            if len(logits) > 1:
                confidence = _array(logits.softmax(0).max(0).values)
        self.collected.task = 'segmentation'
        accuracy = self.collected.pixels.add(truth, found, self.ignore_index, confidence)
        self.collected.images.append(Segmented(path, accuracy))

    def _keep_objects(self, path: str, sample: dict) -> None:
        if 'gt_instances' not in sample or 'bboxes' not in sample['gt_instances']:
            raise _no_truth(path)
        height, width = sample['ori_shape'][:2]
        scale = np.asarray(sample.get('scale_factor', (1, 1)), float)
        scale = scale if self.resized_truth else np.ones(2)
        true = _objects(sample['gt_instances'], (height, width), False, scale)
        ignored = _objects(sample.get('ignored_instances') or {}, (height, width), True, scale)
        truth = _joined(true, ignored)
        found = _objects(sample['pred_instances'], (height, width), False)
        if truth.bboxes.shape[1] == 8 or found.bboxes.shape[1] == 8:
            raise UserError('The report supports rotated boxes with an angle, not quadrilaterals.')
        kind = 'rotated_detection' if found.bboxes.shape[1] == 5 else 'detection'
        if found.masks is not None and truth.masks is not None:
            kind = 'instance_segmentation'
        if self.collected.task != 'instance_segmentation':
            self.collected.task = kind
        self.collected.images.append(Detections(path, (height, width), truth, found))


def _no_truth(path: str) -> UserError:
    return UserError(
        f'{path} has no annotation in the test data, so nothing can be compared. Give the config a '
        'test_dataloader with annotations (for example, `test_dataloader = val_dataloader`) whose '
        'pipeline loads them.'
    )


def _array(values: Any) -> np.ndarray:
    values = getattr(values, 'tensor', values)
    return np.asarray(values.detach().cpu() if hasattr(values, 'detach') else values)


def _objects(
    instances: dict, shape: tuple[int, int], ignored: bool, scale: np.ndarray | None = None
) -> Objects:
    labels: np.ndarray = _array(instances.get('labels', ())).astype(int).reshape(-1)
    bboxes: np.ndarray = _array(instances.get('bboxes', ())).astype(float)
    bboxes = bboxes.reshape(len(labels), -1) if len(labels) else bboxes.reshape(0, bboxes.shape[-1])
    if scale is not None and (scale != 1).any() and bboxes.shape[1] == 4:
        bboxes = bboxes / np.tile(scale, 2)
    scores: np.ndarray = _array(instances.get('scores', np.ones(len(labels)))).astype(float)
    masks = instances.get('masks')
    rles = None
    if masks is not None:
        rles = _run_lengths(masks, shape)
    return Objects(bboxes, labels, scores, np.full(len(labels), ignored), rles)


def _run_lengths(masks: Any, shape: tuple[int, int]) -> list[Rle]:
    if isinstance(masks, list) and (not masks or isinstance(masks[0], dict)):
        return masks
    arrays = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)
    return [coco_masks.encode(np.asfortranarray(mask, np.uint8)) for mask in arrays]


def _joined(first: Objects, second: Objects) -> Objects:
    if not len(second):
        return first
    masks = None if first.masks is None else first.masks + (second.masks or [])
    return Objects(
        np.concatenate([first.bboxes.reshape(-1, second.bboxes.shape[1]), second.bboxes]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.ignored, second.ignored]),
        masks,
    )
