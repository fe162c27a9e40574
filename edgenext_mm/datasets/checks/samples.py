"""Faults of single samples: image sizes, labels, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..palette import IGNORED
from .findings import Problem

#: Shortest side in pixels without a warning, and largest ratio of the sides without an error.
MIN_SIDE, MAX_RATIO = 8, 100


def sample_problems(
    sample: Mapping[str, Any], num_classes: int | None, ignored: int = IGNORED
) -> Iterator[Problem]:
    """Yields the faults of a sample that the loading steps of a pipeline have filled in.

    Args:
        sample: The results dict, with ``ori_shape`` and what the data set lists: ``gt_label``,
            ``instances``, ``height`` and ``width``. A loaded ``gt_seg_map`` is checked too.
        num_classes: Number of classes; None if unknown.
        ignored: Value of mask pixels that the loss ignores. Default: 255.
    """
    height, width = sample['ori_shape']
    if max(height, width) > MAX_RATIO * min(height, width):
        yield Problem('elongated', f'has {width}x{height} pixels, which is too elongated.')
    elif min(height, width) < MIN_SIDE:
        yield Problem('tiny', f'has only {width}x{height} pixels.')
    listed = sample.get('height', height), sample.get('width', width)
    if listed != (height, width):
        yield Problem(
            'size_mismatch',
            f'has {width}x{height} pixels when loaded, but its annotations are for '
            f'{listed[1]}x{listed[0]}.',
        )
    if num_classes is not None:
        for label in labels_of(sample):
            yield from label_problems(label, num_classes)
    boxes = [instance['bbox'] for instance in sample.get('instances', []) if len(instance['bbox'])]
    if boxes:
        points = np.asarray(boxes, float).reshape(len(boxes), -1, 2)
        for _, problem in box_problems(points, np.array([[width, height]])):
            yield problem
    if 'gt_seg_map' in sample and num_classes is not None:
        mask, size = sample['gt_seg_map'], (width, height)
        yield from mask_problems(mask, size, num_classes - 1, ignored=ignored)


def labels_of(sample: Mapping[str, Any]) -> list[int]:
    """Returns the labels of an image or of its objects, as a data set lists them."""
    if 'gt_label' in sample:
        return np.atleast_1d(sample['gt_label']).tolist()
    instances = sample.get('instances', [])
    return [instance['bbox_label'] for instance in instances if len(instance['bbox'])]


def label_problems(label: int, num_classes: int) -> Iterator[Problem]:
    """Yields a problem if no class has this label."""
    if not 0 <= label < num_classes:
        yield Problem(
            'label_range',
            f'has the label {label}; with {num_classes} classes, labels are 0 to '
            f'{num_classes - 1}.',
        )


def box_problems(points: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[int, Problem]]:
    """Yields the faults of boxes, at most one per box.

    Args:
        points: (N, 2, 2) first and last corners, or (N, 4, 2) corners, in pixels.
        sizes: (N, 2) or (1, 2) widths and heights of the images.

    Yields:
        The index of a box, and its fault.
    """
    upright = points.shape[1] == 2
    finite = np.isfinite(points).all(axis=(1, 2))
    lowest, highest = points.min(axis=1), points.max(axis=1)
    with np.errstate(invalid='ignore'):
        sides = points[:, 1] - points[:, 0] if upright else highest - lowest
    faults = (
        ('box_not_finite', ~finite),
        ('box_negative', (sides < 0).any(axis=1)),
        ('box_empty', (sides < 1).any(axis=1)),
        ('box_outside', ((highest <= 0) | (lowest >= sizes)).any(axis=1)),
        # Splitting large images into patches cuts rotated objects, but keeps their corners.
        ('box_partly_outside', upright & ((lowest < -1) | (highest > sizes + 1)).any(axis=1)),
    )
    undecided: np.ndarray = np.ones(len(points), bool)
    sizes = np.broadcast_to(sizes, (len(points), 2))
    for kind, wrong in faults:
        for index in np.flatnonzero(wrong & undecided):
            corners = ', '.join(f'({x:g}, {y:g})' for x, y in points[index])
            width, height = sizes[index]
            yield int(index), Problem(kind, f'has the box {corners} in {width}x{height} pixels.')
        undecided &= ~wrong


def mask_problems(
    mask: np.ndarray,
    size: tuple[int, int],
    highest: int,
    num_classes: int | None = None,
    ignored: int = IGNORED,
) -> Iterator[Problem]:
    """Yields the faults of a mask.

    Args:
        mask: An array of any shape and any integer type.
        size: Width and height of the image.
        highest: The largest value that stands for a class.
        num_classes: Number of classes. Default: ``highest + 1``.
        ignored: Value of pixels that the loss ignores. Default: 255.
    """
    if mask.ndim != 2:
        yield Problem(
            'mask_mode',
            'is a colour image. A mask is a grey or palette image whose pixels are class numbers.',
        )
        return
    if mask.shape[::-1] != size:
        yield Problem(
            'mask_size',
            f'has {mask.shape[1]}x{mask.shape[0]} pixels, but its image has {size[0]}x{size[1]}.',
        )
    wrong = mask[((mask < 0) | (mask > highest)) & (mask != ignored)]
    if wrong.size:
        yield Problem(
            'mask_value',
            f'has the value {wrong.min()}. With {num_classes or highest + 1} classes, values '
            f'are 0 to {highest}, or {ignored} for ignored pixels.',
        )
