"""Selection of boxes against mmcv, torchvision and shapely."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, box_iou_rotated
from mmrotate.structures.bbox import RotatedBoxes
from shapely.geometry import Polygon
from torchvision.ops import box_iou as torchvision_iou

from edgenext_mm.errors import UserError
from edgenext_mm.runtime.boxes import (
    Detections,
    Selection,
    corners_of,
    iou,
    nms,
    rescaled,
    select,
)


def random_boxes(count, rotated, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.uniform(0, 200, (count, 2))
    sides = generator.uniform(5, 80, (count, 2))
    if not rotated:
        return np.concatenate([centres - sides / 2, centres + sides / 2], 1).astype(np.float32)
    angles = generator.uniform(-math.pi / 4, 3 * math.pi / 4, (count, 1))
    return np.concatenate([centres, sides, angles], 1).astype(np.float32)


def test_iou_is_that_of_torchvision():
    boxes = random_boxes(60, rotated=False)
    expected = torchvision_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    for i, box in enumerate(boxes):
        np.testing.assert_allclose(iou(box, boxes), expected[i], atol=1e-6)


def test_rotated_iou_is_that_of_shapely_and_mmcv():
    boxes = random_boxes(60, rotated=True)
    polygons = [Polygon(corners) for corners in corners_of(boxes)]
    in_mmcv = box_iou_rotated(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    assert (in_mmcv > 0.1).sum() > 100
    for i, box in enumerate(boxes):
        expected = [polygons[i].intersection(p).area / polygons[i].union(p).area for p in polygons]
        np.testing.assert_allclose(iou(box, boxes), expected, atol=1e-5)
        np.testing.assert_allclose(iou(box, boxes), in_mmcv[i], atol=1e-3)


@pytest.mark.parametrize(
    ('other', 'expected'),
    [
        ([50, 50, 20, 10, 0.3], 1.0),  # the same box
        ([50, 50, 10, 20, 0.3 + math.pi / 2], 1.0),  # the same with other names for its sides
        ([50, 50, 10, 5, 0.3], 0.25),  # inside
        ([50 + 10 * math.cos(0.3), 50 + 10 * math.sin(0.3), 20, 10, 0.3], 1 / 3),  # half shared
        ([50 + 20 * math.cos(0.3), 50 + 20 * math.sin(0.3), 20, 10, 0.3], 0.0),  # touching
        ([500, 50, 20, 10, 0.3], 0.0),
    ],
)
def test_rotated_iou_by_hand(other, expected):
    box = np.array([50, 50, 20, 10, 0.3])
    assert iou(box, np.array([other]))[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('rotated', [False, True])
@pytest.mark.parametrize('class_agnostic', [False, True])
def test_nms_keeps_the_boxes_that_mmcv_keeps(rotated, class_agnostic):
    boxes = random_boxes(300, rotated)
    generator = np.random.default_rng(1)
    scores = generator.permutation(300).astype(np.float32) / 300
    found = Detections(boxes, scores, generator.integers(0, 3, 300)).sorted()
    selection = Selection(0, 1000, 0.3, class_agnostic, 100, None, False, (), ())
    kept = found.take(
        nms(found, selection.iou_threshold, selection.class_agnostic, selection.max_per_img)
    )
    expected, index = batched_nms(
        *(torch.from_numpy(v) for v in (found.boxes, found.scores, found.labels)),
        dict(type='nms_rotated' if rotated else 'nms', iou_threshold=0.3),
        class_agnostic=class_agnostic,
    )
    assert len(index) > 50
    np.testing.assert_allclose(kept.boxes, expected[:100, :-1], atol=1e-4)
    np.testing.assert_allclose(kept.scores, expected[:100, -1])
    assert kept.labels.tolist() == found.labels[index[:100].numpy()].tolist()


def test_rotated_boxes_are_scaled_as_by_mmrotate():
    boxes = random_boxes(50, rotated=True)
    expected = RotatedBoxes(torch.from_numpy(boxes))
    expected.rescale_((1 / 0.5, 1 / 0.8))
    np.testing.assert_allclose(rescaled(boxes, (0.5, 0.8)), expected.tensor, rtol=1e-5, atol=1e-4)


def test_levels_that_do_not_follow_from_strides():
    """SSD's deepest maps shrink by convolutions without padding."""
    boxes, scores = random_boxes(30, rotated=False), np.full((30, 2), 0.5, np.float32)
    selection = Selection(0, 10, 1.0, False, 100, None, False, (8,), (1,))
    with pytest.raises(UserError, match=r'returns 30 boxes.*64x64.*lead to 64'):
        select(boxes, scores, None, selection, (64, 64), (64, 64), (1, 1))
    selection = selection._replace(sizes=(20, 10), strides=(8, 16), num_priors=(1, 1))
    found = select(boxes, scores, None, selection, (64, 64), (64, 64), (1, 1))
    assert len(found.scores) == 20  # ten of each level
