"""Faults of annotations, beside their images: what checks of files and training both refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..palette import IGNORED
from .findings import Problem

#: Sides of an image in pixels, and their ratio.
MIN_SIDE, MAX_RATIO = 8, 100


def sample_problems(
    sample: Mapping[str, Any], num_classes: int | None, ignored: int = IGNORED
) -> Iterator[Problem]:
    """Faults of a sample as the loading steps of a pipeline leave it.

    Args:
        sample: With ``img`` and what the data set lists of it: ``gt_label``, ``instances``,
            ``height`` and ``width``; and with ``gt_seg_map``.
        num_classes: None where the data set does not say.
        ignored: Value of pixels of masks that do not count. Default: 255.
    """
    height, width = sample['ori_shape']
    yield from size_problems(height, width)
    listed = sample.get('height', height), sample.get('width', width)
    if listed != (height, width):
        yield Problem(
            'size_mismatch',
            f'is of {width}x{height} pixels as it is loaded, its annotations are for '
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
    """The classes of an image or of the objects in it, as a data set lists them."""
    if 'gt_label' in sample:
        return np.atleast_1d(sample['gt_label']).tolist()
    instances = sample.get('instances', [])
    return [instance['bbox_label'] for instance in instances if len(instance['bbox'])]


def size_problems(height: int, width: int) -> Iterator[Problem]:
    """Whether an image of so many pixels has a shape that pipelines can work with."""
    if max(height, width) > MAX_RATIO * min(height, width):
        yield Problem('elongated', f'is of {width}x{height} pixels, no picture to learn from.')
    elif min(height, width) < MIN_SIDE:
        yield Problem('tiny', f'is of {width}x{height} pixels.')


def label_problems(label: int, num_classes: int) -> Iterator[Problem]:
    """Whether a class has that number."""
    if not 0 <= label < num_classes:
        yield Problem(
            'label_range',
            f'has the label {label}; with {num_classes} classes, labels are 0 to '
            f'{num_classes - 1}.',
        )


def box_problems(points: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[int, Problem]]:
    """Faults of boxes, at most one of each.

    Args:
        points: (N, 2, 2) first and last corners or (N, 4, 2) corners, in pixels.
        sizes: (N, 2) or (1, 2) widths and heights of the images.

    Yields:
        Index of a box, and its fault.
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
        # Patches of large images cut rotated objects, whose corners stay where they were.
        ('box_partly_outside', upright & ((lowest < -1) | (highest > sizes + 1)).any(axis=1)),
    )
    undecided: np.ndarray = np.ones(len(points), bool)
    widths = np.broadcast_to(sizes, (len(points), 2))
    for kind, wrong in faults:
        for index in np.flatnonzero(wrong & undecided):
            corners = ', '.join(f'({x:g}, {y:g})' for x, y in points[index])
            width, height = widths[index]
            yield int(index), Problem(kind, f'has the box {corners} in {width}x{height} pixels.')
        undecided &= ~wrong


def mask_problems(
    mask: np.ndarray,
    size: tuple[int, int],
    highest: int,
    num_classes: int | None = None,
    ignored: int = IGNORED,
) -> Iterator[Problem]:
    """Faults of a mask.

    Args:
        mask: Of any shape and whole numbers.
        size: Width and height of its image.
        highest: The largest value that stands for a class.
        num_classes: Of the config. Default: ``highest + 1``.
        ignored: Value of pixels that do not count. Default: 255.
    """
    if mask.ndim != 2:
        yield Problem(
            'mask_mode',
            'is a colour image; a mask holds the number of a class in each pixel, as a grey or '
            'palette image.',
        )
        return
    if mask.shape[::-1] != size:
        yield Problem(
            'mask_size',
            f'is of {mask.shape[1]}x{mask.shape[0]} pixels, its image of {size[0]}x{size[1]}.',
        )
    wrong = mask[((mask < 0) | (mask > highest)) & (mask != ignored)]
    if wrong.size:
        yield Problem(
            'mask_value',
            f'holds the value {wrong.min()}. With {num_classes or highest + 1} classes, values '
            f'are 0 to {highest}, and {ignored} for pixels that do not count.',
        )
