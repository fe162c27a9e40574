"""Large images, tile by tile."""

import numpy as np
import pytest

from edgenext_mm import inference_model
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.tiling import Tile, cut_tiles, merge_results


def found(*rows, masks=None):
    table = np.array(rows, np.float32).reshape(len(rows), -1)
    result = dict(
        bboxes=table[:, :-2],
        labels=table[:, -2].astype(int),
        scores=table[:, -1],
        classes=[f'class {int(label)}' for label in table[:, -2]],
    )
    return result if masks is None else dict(result, masks=masks)


NOTHING = {**found((0, 0, 1, 1, 0, 0.1)), 'bboxes': np.zeros((0, 4), np.float32)}
NOTHING.update(labels=np.zeros(0, int), scores=np.zeros(0, np.float32), classes=[])


@pytest.mark.parametrize('shape', [(100, 250), (64, 64), (10, 300), (1000, 1001)])
@pytest.mark.parametrize('overlap', [0.0, 0.2, 0.5])
def test_tiles_cover_the_image_and_overlap_enough(shape, overlap):
    tiles = cut_tiles(shape, 64, overlap)
    covered = np.zeros(shape, int)
    for x1, y1, x2, y2 in tiles:
        assert (x2 - x1, y2 - y1) == (min(64, shape[1]), min(64, shape[0]))
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    rows = sorted({tile.x1 for tile in tiles})
    steps = np.diff(rows)
    assert (steps <= np.ceil(64 * (1 - overlap))).all()


def test_an_object_in_two_tiles_is_found_once_and_its_cut_part_is_dropped():
    """An object from x = 60 to 90 in tiles from 0 to 80 and from 40 to 120."""
    tiles, shape = [Tile(0, 0, 80, 50), Tile(40, 0, 120, 50)], (50, 120)
    left = found((60, 10, 80, 30, 3, 0.9), (5, 5, 15, 15, 3, 0.8))
    right = found((20, 10, 50, 30, 3, 0.6))
    merged = merge_results([left, right], tiles, shape)
    assert merged['bboxes'].tolist() == [[5, 5, 15, 15], [60, 10, 90, 30]]
    assert merged['scores'].tolist() == pytest.approx([0.8, 0.6])
    assert merged['classes'] == ['class 3', 'class 3']


def test_parts_of_other_classes_and_objects_at_the_border_of_the_image_stay():
    tiles, shape = [Tile(0, 0, 80, 50), Tile(40, 0, 120, 50)], (50, 120)
    left = found((60, 10, 80, 30, 2, 0.9), (0, 0, 10, 10, 3, 0.7))
    right = found((20, 10, 50, 30, 3, 0.6))
    merged = merge_results([left, right], tiles, shape)
    assert len(merged['labels']) == 3


def test_rotated_boxes():
    """A box along x that the first tile cuts, and a turned one that both tiles see."""
    tiles, shape = [Tile(0, 0, 80, 80), Tile(40, 0, 120, 80)], (80, 120)
    left = found((70, 20, 20, 10, 0, 0, 0.9), (60, 60, 16, 8, 0.7, 1, 0.5))
    right = found((35, 20, 30, 10, 0, 0, 0.6), (20, 60, 16, 8, 0.7, 1, 0.8))
    merged = merge_results([left, right], tiles, shape)
    np.testing.assert_allclose(merged['bboxes'], [[60, 60, 16, 8, 0.7], [75, 20, 30, 10, 0]])
    assert merged['scores'].tolist() == pytest.approx([0.8, 0.6])


def test_masks_are_put_at_their_place():
    tiles, shape = [Tile(0, 0, 40, 40), Tile(30, 0, 70, 40)], (40, 70)
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 5:9, 20:30] = True
    nothing = {**NOTHING, 'masks': np.zeros((0, 40, 40), bool)}
    merged = merge_results([nothing, found((20, 5, 30, 9, 1, 0.9), masks=mask)], tiles, shape)
    expected = np.zeros((1, 40, 70), bool)
    expected[0, 5:9, 50:60] = True
    np.testing.assert_array_equal(merged['masks'], expected)


def test_pixels_come_from_the_tile_whose_border_is_farther():
    tiles, shape = [Tile(0, 0, 6, 2), Tile(4, 0, 10, 2)], (2, 10)
    results = [dict(sem_seg=np.full((2, 6), value)) for value in (1, 2)]
    merged = merge_results(results, tiles, shape)
    assert merged['sem_seg'].tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 2, 2]] * 2


def test_nothing_in_any_tile():
    merged = merge_results([NOTHING, NOTHING], [Tile(0, 0, 9, 9), Tile(5, 0, 14, 9)], (9, 14))
    assert merged['bboxes'].shape == (0, 4)


@pytest.fixture(scope='module')
def shifted_detector():
    """A detector that finds bright squares exactly, in the form of load_model's models."""
    import cv2
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    class Squares(torch.nn.Module):
        cfg = Config(
            dict(
                default_scope='mmdet',
                test_dataloader=dict(
                    dataset=dict(
                        pipeline=[
                            dict(type='LoadImageFromFile'),
                            dict(type='PackDetInputs', meta_keys=('ori_shape',)),
                        ]
                    )
                ),
            )
        )
        dataset_meta = dict(classes=('square',))

        def test_step(self, data):
            samples = []
            for image in data['inputs']:
                bright = (image[0].numpy() > 128).astype(np.uint8)
                _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
                boxes = stats[1:, :4].astype(np.float32)
                boxes[:, 2:] += boxes[:, :2]
                sample = DetDataSample()
                sample.pred_instances = InstanceData(
                    bboxes=torch.from_numpy(boxes),
                    labels=torch.zeros(len(boxes), dtype=torch.long),
                    scores=torch.linspace(0.9, 0.5, len(boxes)),
                )
                samples.append(sample)
            return samples

    return Squares()


def test_tiles_give_the_objects_of_the_whole_image(shifted_detector):
    """Squares of 8 to 30 pixels anywhere in an image of 700x500, in tiles of 160."""
    rng = np.random.default_rng(0)
    image = np.zeros((500, 700, 3), np.uint8)
    for y in range(2, 460, 46):
        for x in range(2, 660, 46):
            side = int(rng.integers(8, 31))
            dy, dx = rng.integers(0, 44 - side, 2)
            image[y + dy : y + dy + side, x + dx : x + dx + side] = 255
    whole = inference_model(shifted_detector, image)
    tiled = inference_model(shifted_detector, image, tile=160, overlap=0.25, batch_size=3)
    assert len(whole['labels']) > 130
    assert sorted(map(tuple, tiled['bboxes'].tolist())) == sorted(
        map(tuple, whole['bboxes'].tolist())
    )


def test_an_image_that_fits_into_a_tile_gives_the_same_result(shifted_detector):
    image = np.zeros((100, 120, 3), np.uint8)
    image[10:20, 30:50] = 255
    whole = inference_model(shifted_detector, image)
    tiled = inference_model(shifted_detector, image, tile=128)
    np.testing.assert_array_equal(whole['bboxes'], tiled['bboxes'])


def test_classifiers_have_no_tiles(classifier):
    with pytest.raises(UserError, match='classes are those of the whole image'):
        inference_model(classifier, np.zeros((200, 300, 3), np.uint8), tile=64)


@pytest.mark.parametrize(('tile', 'overlap'), [(8, 0.2), (64, 1.0), (64, -0.1)])
def test_wrong_settings(classifier, tile, overlap):
    with pytest.raises(UserError, match='at least 32 pixels and an overlap from 0'):
        inference_model(classifier, np.zeros((9, 9, 3), np.uint8), tile=tile, overlap=overlap)
