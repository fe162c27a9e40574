"""Fitted anchors, against mmdet's anchors and IoU."""

import itertools

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator, SSDAnchorGenerator
from mmdet.structures.bbox import bbox_overlaps

from edgenext_mm import SSDLiteNeck
from edgenext_mm.datasets.custom import anchors

SIZES = (0.08, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)


def random_boxes(image_size, count=200, sizes=(8, 150)):
    """Boxes in the middle of the image, where no anchor is cut off."""
    rng = np.random.default_rng(0)
    width, height = image_size
    centres = rng.uniform((width / 4, height / 4), (3 * width / 4, 3 * height / 4), (count, 2))
    shapes = np.exp(rng.uniform(*np.log(sizes), (count, 2)))
    return np.concatenate([centres, shapes, rng.integers(0, 3, (count, 1))], 1)


def best_of_mmdet(boxes, generator, maps):
    grids = generator.grid_priors([(h, w) for w, h in maps], device='cpu')
    corners = np.concatenate(
        [boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], 1
    )
    return bbox_overlaps(torch.tensor(corners).float(), torch.cat(grids)).max(1).values.numpy()


@pytest.mark.parametrize('image_size', [(320, 320), (352, 256), (480, 384)])
def test_iou_with_ssdlites_anchors(image_size):
    boxes, maps = random_boxes(image_size), anchors.ssd_map_sizes(image_size)
    sizes = [size * image_size[0] for size in SIZES]
    generator = SSDAnchorGenerator(
        strides=[(image_size[0] / w, image_size[1] / h) for w, h in maps],
        ratios=[list(ratios) for ratios in anchors.SSD_RATIOS],
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        input_size=image_size,
        scale_major=False,
    )
    found = anchors.ssd_ious(boxes, SIZES, image_size)
    np.testing.assert_allclose(found, best_of_mmdet(boxes, generator, maps), atol=1e-5)


def test_iou_with_the_anchors_of_an_fpn():
    boxes = random_boxes((640, 512))
    generator = AnchorGenerator(strides=[8, 16, 32, 64], ratios=[0.5, 1.0, 2.0], scales=[3.0])
    maps = [(640 // s, 512 // s) for s in (8, 16, 32, 64)]
    found = anchors.fpn_ious(boxes, 3.0, (8, 16, 32, 64), (0.5, 1.0, 2.0))
    np.testing.assert_allclose(found, best_of_mmdet(boxes, generator, maps), atol=1e-5)


@pytest.mark.parametrize('image_size', [(320, 320), (352, 256), (96, 64)])
def test_map_sizes_of_ssdlite(image_size):
    width, height = image_size
    neck = SSDLiteNeck(
        in_channels=(8, 8),
        out_channels=(8,) * anchors.NUM_SSD_LEVELS,
        level_strides=(2, 2, 2, 2),
        level_paddings=(1, 1, 1, 1),
        l2_norm_scale=None,
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    )
    maps = neck.eval()([torch.zeros(1, 8, height // s, width // s) for s in (16, 32)])
    assert anchors.ssd_map_sizes(image_size) == [(x.shape[3], x.shape[2]) for x in maps]


def test_rare_classes_count_as_much_as_frequent_ones():
    assert anchors.mean_iou(np.array([0.2, 0.9, 0.9, 0.9]), np.array([7, 3, 3, 3])) == (
        pytest.approx((0.2 + 0.9) / 2)
    )


@pytest.mark.parametrize('sizes', [(8, 30), (30, 90), (90, 300)])
def test_fitted_anchors_are_better_and_in_order(sizes):
    boxes, image_size = random_boxes((320, 320), 300, sizes), (320, 320)
    fitted = anchors.fit_ssd_sizes(boxes, image_size)
    assert all(b > a for a, b in itertools.pairwise(fitted))

    def quality(chosen):
        return anchors.mean_iou(anchors.ssd_ious(boxes, chosen, image_size), boxes[:, 4])

    assert quality(fitted) > quality(anchors.SSD_SIZES) + 0.005
    assert quality(fitted) > quality(SIZES)


@pytest.mark.parametrize('scale', [2.0, 4.5, 6.0])
def test_the_scale_of_boxes_that_are_anchors_is_found(scale):
    """Square boxes at the places of anchors of one level."""
    places = np.arange(3, 9) * 16.0
    boxes = np.stack([places, places, *[np.full(6, scale * 16)] * 2, np.zeros(6)], 1)
    assert anchors.fit_fpn_scale(boxes, 8.0, strides=(16,)) == scale


def test_without_boxes_the_anchors_are_the_recipes():
    none = np.empty((0, 5))
    assert anchors.fit_ssd_sizes(none, (320, 320)) == anchors.SSD_SIZES
    assert anchors.fit_fpn_scale(none, 8.0) == 8.0


def test_boxes_are_resized_with_their_images():
    boxes = np.array([[320.0, 100.0, 64.0, 20.0, 640.0, 400.0, 5.0]])
    stretched = anchors.resized(boxes, (320, 320), keep_ratio=False)
    kept = anchors.resized(boxes, (320, 320), keep_ratio=True)
    np.testing.assert_allclose(stretched, [[160, 80, 32, 16, 5]])
    np.testing.assert_allclose(kept, [[160, 50, 32, 10, 5]])
