"""Metrics of detected objects: matching, errors by kind, confusion, average precision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..evaluation import rotated_average_precision as rotated
from ..evaluation.rotated_average_precision import RotatedBoxes
from .predictions import Detections, Objects

#: IoU from which a prediction is in the right place, and below which it shows background. These,
#: the kinds of errors and the order of their tests are those of TIDE (Bolya et al. 2020,
#: https://arxiv.org/abs/2008.08115).
MIN_IOU, MAX_BACKGROUND_IOU = 0.5, 0.1
#: Kinds of wrong predictions, and true objects that are missed.
ERRORS = {
    'place': 'right class, IoU 0.1 to 0.5',
    'class': 'wrong class, IoU of 0.5 or more',
    'double': 'right class and place, but another prediction has the object',
    'background': 'IoU of 0.1 or less with every object',
    'both': 'wrong class, IoU 0.1 to 0.5',
    'missed': 'no prediction has the object, not even in a wrong place or class',
}
#: COCO's limits of small and large objects: areas in square pixels.
SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 1e10)}


def pairwise_iou(found: Objects, truth: Objects) -> np.ndarray:
    """Returns the (N, M) IoU of predictions and true objects: of masks if both have them.

    The IoU with an ignored object is the share of the prediction inside it, as COCO defines it for
    crowds.
    """
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    if found.masks is not None and truth.masks is not None:
        return np.asarray(coco_masks.iou(found.masks, truth.masks, truth.ignored.tolist()))
    if found.bboxes.shape[1] == 5:
        return _rotated_iou(found.bboxes, truth.bboxes, truth.ignored)
    boxes = [_as_xywh(objects.bboxes) for objects in (found, truth)]
    return np.asarray(coco_masks.iou(*boxes, truth.ignored.tolist()))


def _as_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _rotated_iou(found: np.ndarray, truth: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    import torch
    from mmcv.ops import box_iou_rotated

    boxes = [torch.from_numpy(values).float() for values in (found, truth)]
    iou = box_iou_rotated(*boxes).numpy().astype(float)
    if ignored.any():
        inside = box_iou_rotated(*boxes, mode='iof').numpy()
        iou[:, ignored] = inside[:, ignored]
    return iou


def areas(objects: Objects) -> np.ndarray:
    """Returns the (N,) areas of objects in square pixels: of their masks if they have them."""
    if objects.masks is not None:
        return np.asarray(coco_masks.area(objects.masks), float).reshape(-1)
    if objects.bboxes.shape[1] == 5:
        return objects.bboxes[:, 2] * objects.bboxes[:, 3]
    return (objects.bboxes[:, 2:] - objects.bboxes[:, :2]).prod(1)


@dataclass
class Matches:
    """Predictions and true objects of a data set, matched within each class.

    Args:
        scores: (N,) scores of the predictions that count.
        labels: (N,) their classes.
        right: (N,) whether each has a true object.
        true_labels: (M,) classes of the true objects that count.
        true_scores: (M,) score of the prediction that has the object; -1 if it is missed.
        true_areas: (M,) areas in square pixels.
    """

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    true_labels: np.ndarray
    true_scores: np.ndarray
    true_areas: np.ndarray

    @classmethod
    def of(cls, images: Sequence[Detections]) -> Matches:
        """Matches each prediction, from the highest score on, with the best free object.

        Predictions of ignored objects do not count.
        """
        parts: list[list[np.ndarray]] = [[] for _ in range(6)]
        for image in images:
            found, truth = image.found, image.truth
            match = match_objects(found, truth)
            counts = match > -2
            true = ~truth.ignored
            best = np.full(len(truth), -1.0)
            best[match[match >= 0]] = found.scores[match >= 0]
            values = [found.scores[counts], found.labels[counts], match[counts] >= 0]
            values += [truth.labels[true], best[true], areas(truth)[true]]
            for part, value in zip(parts, values, strict=True):
                part.append(value)
        return cls(*(np.concatenate(part) if part else np.empty(0) for part in parts))

    def of_class(self, label: int) -> Matches:
        """Returns those of one class."""
        own, true = self.labels == label, self.true_labels == label
        return Matches(
            *(values[own] for values in (self.scores, self.labels, self.right)),
            *(values[true] for values in (self.true_labels, self.true_scores, self.true_areas)),
        )


def match_objects(found: Objects, truth: Objects) -> np.ndarray:
    """Matches the objects of an image by COCO's rule at an IoU of 0.5, class by class.

    Returns:
        (N,) the index of each prediction's true object; -1 without one, -2 if it is an ignored
        one, so that the prediction does not count.
    """
    match = np.full(len(found), -1)
    iou = pairwise_iou(found, truth)
    taken: np.ndarray = np.zeros(len(truth), bool)
    for i in np.argsort(-found.scores, kind='stable'):
        fits = (truth.labels == found.labels[i]) & (iou[i] >= MIN_IOU)
        free = fits & ~taken & ~truth.ignored
        if free.any():
            match[i] = np.where(free, iou[i], -1).argmax()
            taken[match[i]] = True
        elif (fits & truth.ignored).any():
            match[i] = -2
    return match


def count_errors(images: Sequence[Detections], threshold: float) -> dict[str, int]:
    """Counts wrong predictions by kind, and missed objects.

    Args:
        images: Predictions and ground truth.
        threshold: Minimum score of predictions.
    """
    counts = dict.fromkeys(ERRORS, 0)
    for image in images:
        found = image.found.chosen(image.found.scores >= threshold)
        match = match_objects(found, image.truth)
        truth = image.truth.chosen(~image.truth.ignored)
        iou = pairwise_iou(found, truth)
        index = np.cumsum(~image.truth.ignored) - 1
        has: np.ndarray = np.zeros(len(truth), bool)
        has[index[match[match >= 0]]] = True
        explained = has.copy()
        for i in np.flatnonzero(match == -1):
            same = truth.labels == found.labels[i]
            kind, objects = _kind(iou[i], same, has)
            counts[kind] += 1
            explained |= objects
        counts['missed'] += int((~explained).sum())
    return counts


def _kind(iou: np.ndarray, same: np.ndarray, has: np.ndarray) -> tuple[str, np.ndarray]:
    """The kind of a wrong prediction, and the object that it would have if it were corrected."""
    own, other = np.where(same, iou, 0), np.where(same, 0, iou)
    none: np.ndarray = np.zeros(len(iou), bool)
    best = none.copy()
    if own.max(initial=0) > MAX_BACKGROUND_IOU and own.max() < MIN_IOU:
        best[own.argmax()] = True
        return 'place', best
    if other.max(initial=0) >= MIN_IOU:
        best[other.argmax()] = True
        return 'class', best
    if own.max(initial=0) >= MIN_IOU:
        return 'double', none
    if iou.max(initial=0) <= MAX_BACKGROUND_IOU:
        return 'background', none
    return 'both', none


def confusion(images: Sequence[Detections], num_classes: int, threshold: float) -> np.ndarray:
    """Counts objects by true and predicted class, with the background as the last one.

    Pairs are matched in the order of their IoU, whatever their classes.

    Args:
        images: Predictions and ground truth.
        num_classes: Number of classes.
        threshold: Minimum score of predictions.

    Returns:
        (num_classes + 1, num_classes + 1) int64, true classes in rows: the last row has predictions
        without an object, the last column objects without a prediction.
    """
    matrix: np.ndarray = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image in images:
        found = image.found.chosen(image.found.scores >= threshold)
        match = match_objects(found, image.truth)
        found = found.chosen(match != -2)
        truth = image.truth.chosen(~image.truth.ignored)
        iou = pairwise_iou(found, truth)
        free_found: np.ndarray = np.ones(len(found), bool)
        free_true: np.ndarray = np.ones(len(truth), bool)
        for position in np.argsort(-iou, axis=None, kind='stable'):
            i, j = divmod(int(position), len(truth))
            if iou[i, j] < MIN_IOU:
                break
            if free_found[i] and free_true[j]:
                free_found[i] = free_true[j] = False
                matrix[truth.labels[j], found.labels[i]] += 1
        np.add.at(matrix, (-1, found.labels[free_found]), 1)
        np.add.at(matrix, (truth.labels[free_true], -1), 1)
    return matrix


def average_precision(images: Sequence[Detections], num_classes: int) -> dict[str, Any]:
    """Computes COCO's average precision with pycocotools, for upright boxes or masks.

    Returns:
        ``AP``, ``AP50``, ``AP75`` and AP by size, from 0 to 1 (-1 without objects), and
        ``per_class`` with (AP, AP50) of each class.
    """
    with_masks = all(i.found.masks is not None and i.truth.masks is not None for i in images)
    coco, results = COCO(), []
    coco.dataset = dict(images=[], annotations=[], categories=[])
    coco.dataset['categories'] = [dict(id=i + 1, name=str(i)) for i in range(num_classes)]
    for number, image in enumerate(images, 1):
        height, width = image.shape
        coco.dataset['images'].append(dict(id=number, height=height, width=width))
        for entry in _entries(image.truth, number, with_masks):
            entry['id'] = len(coco.dataset['annotations']) + 1
            coco.dataset['annotations'].append(entry)
        results += _entries(image.found, number, with_masks)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        if not results:
            none = dict.fromkeys(('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl'), 0.0)
            return dict(none, per_class=[(0.0, 0.0)] * num_classes)
        evaluation = COCOeval(coco, coco.loadRes(results), 'segm' if with_masks else 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
    found = dict(zip(names, map(float, evaluation.stats), strict=False))
    precision = evaluation.eval['precision'][..., 0, -1]  # (IoU, recall, class)
    per_class = []
    for label in range(num_classes):
        own = precision[:, :, label]
        values = [own, own[0]]
        per_class.append(tuple(float(v[v > -1].mean()) if (v > -1).any() else -1.0 for v in values))
    return dict(found, per_class=per_class)


def _entries(objects: Objects, image_id: int, with_masks: bool) -> list[dict[str, Any]]:
    entries = []
    sizes = areas(objects)
    for i, box in enumerate(_as_xywh(objects.bboxes)):
        entry = dict(
            image_id=image_id,
            category_id=int(objects.labels[i]) + 1,
            bbox=box.tolist(),
            score=float(objects.scores[i]),
            area=float(sizes[i]),
            iscrowd=int(objects.ignored[i]),
        )
        if with_masks and objects.masks is not None:
            entry['segmentation'] = objects.masks[i]
        entries.append(entry)
    return entries


def rotated_average_precision(images: Sequence[Detections], num_classes: int) -> dict[str, Any]:
    """Computes the AP of DOTA at an IoU of 0.5 (11 points).

    Returns:
        ``AP50``, the mean over the classes with objects, and ``per_class`` with AP50 of each class,
        -1 without objects.
    """
    classes = []
    for label in range(num_classes):
        boxes = []
        for found, truth in ((image.found, image.truth) for image in images):
            own = found.chosen(found.labels == label)
            true, ignored = (
                truth.bboxes[(truth.labels == label) & (truth.ignored == value)]
                for value in (False, True)
            )
            boxes.append(RotatedBoxes(own.bboxes, own.scores, true, ignored))
        classes.append(rotated.rotated_average_precision(boxes))
    return dict(AP50=rotated.mean_ap(classes), per_class=[found.ap for found in classes])


def image_f1(image: Detections, threshold: float) -> float:
    """Returns F1 of the objects in an image; 1 if there are none and none is predicted."""
    found = image.found.chosen(image.found.scores >= threshold)
    match = match_objects(found, image.truth)
    hits, wrong = int((match >= 0).sum()), int((match == -1).sum())
    total = 2 * hits + wrong + int((~image.truth.ignored).sum()) - hits
    return 2 * hits / total if total else 1.0
