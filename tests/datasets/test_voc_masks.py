import json
import shutil

import numpy as np
import pytest
from PIL import Image

from edgenext_mm.datasets import voc_masks as module
from edgenext_mm.datasets.palette import voc_palette
from edgenext_mm.datasets.voc_masks import COCO_TO_VOC, VOC_CLASSES, convert_coco_to_voc, draw_mask
from edgenext_mm.errors import UserError

CATEGORIES = {1: 'person', 5: 'airplane', 44: 'bottle', 67: 'dining table', 90: 'toothbrush'}
PERSON, BOTTLE, TABLE = 15, 5, 11
LABELS = {1: PERSON, 5: 1, 44: BOTTLE, 67: TABLE}
HEIGHT, WIDTH = 40, 50


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(category, segmentation, iscrowd=0):
    return dict(id=7, image_id=3, category_id=category, segmentation=segmentation, iscrowd=iscrowd)


def run_lengths(mask):
    """COCO's uncompressed run lengths: column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    borders = np.flatnonzero(np.diff(flat)).tolist()
    counts = np.diff([0, *borders, mask.size]).tolist()
    return dict(size=list(mask.shape), counts=counts)


def draw(*annotations):
    return draw_mask(annotations, HEIGHT, WIDTH, LABELS)


def test_classes_and_colours_are_those_of_mmseg():
    from mmseg.datasets import PascalVOCDataset

    assert PascalVOCDataset.METAINFO['classes'] == VOC_CLASSES
    assert voc_palette()[:21].tolist() == PascalVOCDataset.METAINFO['palette']
    assert voc_palette()[255].tolist() == [224, 224, 192]  # the border of VOC's own masks


def test_every_class_has_a_category_in_coco():
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    assert set(COCO_TO_VOC) <= set(names)
    found = [COCO_TO_VOC.get(name, name) for name in names]
    assert sorted(name for name in found if name in VOC_CLASSES) == sorted(VOC_CLASSES[1:])


def test_rectangles_on_pixel_borders_are_exact():
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:12, 3:20] = PERSON
    expected[20:30, 30:50] = BOTTLE
    mask = draw(instance(1, rectangle(3, 5, 20, 12)), instance(44, rectangle(30, 20, 50, 30)))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


def test_polygons_agree_with_shapely_but_for_their_borders():
    import shapely

    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    compared = 0
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(5, 18, 9)
        corners = np.stack([25 + radii * np.cos(angles), 20 + radii * np.sin(angles)], axis=1)
        polygon = shapely.Polygon(corners)
        mask = draw(instance(1, [corners.ravel().tolist()]))
        clear = shapely.distance(polygon.boundary, shapely.points(x, y)) > 1
        np.testing.assert_array_equal(
            mask[clear] == PERSON, shapely.contains_xy(polygon, x, y)[clear]
        )
        compared += clear.sum()
    assert compared > 20 * 0.8 * HEIGHT * WIDTH


@pytest.mark.parametrize('packed', [False, True])
def test_run_lengths_are_exact(packed):
    shape = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.3
    segmentation = run_lengths(shape)
    if packed:
        from pycocotools.mask import encode

        segmentation = encode(np.asfortranarray(shape.astype(np.uint8)))
        segmentation['counts'] = segmentation['counts'].decode()  # as JSON holds it
    np.testing.assert_array_equal(draw(instance(1, segmentation)) == PERSON, shape)


@pytest.mark.parametrize('order', [1, -1])
def test_the_smaller_object_is_in_front(order):
    table = instance(67, rectangle(0, 0, 50, 40))
    bottle = instance(44, rectangle(20, 10, 25, 20))
    mask = draw(*[table, bottle][::order])
    assert (mask[10:20, 20:25] == BOTTLE).all()
    assert np.count_nonzero(mask == TABLE) == HEIGHT * WIDTH - 50


def test_among_equals_the_earlier_one_is_in_front():
    region = rectangle(10, 10, 20, 20)
    assert draw(instance(1, region), instance(44, region))[15, 15] == PERSON
    assert draw(instance(44, region), instance(1, region))[15, 15] == BOTTLE


@pytest.mark.parametrize('order', [1, -1])
def test_crowds_are_ignored_behind_every_object(order):
    shape = np.zeros((HEIGHT, WIDTH), bool)
    shape[10:15, 10:15] = True
    crowd = instance(1, run_lengths(shape), iscrowd=1)
    table = instance(67, rectangle(0, 0, 12, 40))
    mask = draw(*[crowd, table][::order])
    assert (mask[10:15, 10:12] == TABLE).all()
    assert (mask[10:15, 12:15] == 255).all()
    assert np.count_nonzero(mask == 255) == 15


def test_other_categories_are_background():
    crowd = instance(90, run_lengths(np.ones((HEIGHT, WIDTH), bool)), iscrowd=1)
    assert not draw(instance(90, rectangle(0, 0, 50, 40)), crowd).any()


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        ([], 'annotation 7 .image 3.*at least three corners'),
        ([[1, 2, 3, 4]], 'at least three corners'),
        ([[1, 2, 3, 4, 5, 6, 7]], 'at least three corners'),
        (None, 'at least three corners'),
        (dict(size=[4, 4], counts=[16]), r'its size is \[4, 4\], not \[40, 50\]'),
        (dict(counts=[16]), 'neither polygons nor run lengths'),
    ],
)
def test_segmentations_that_are_none_are_refused(segmentation, message):
    with pytest.raises(UserError, match=message):
        draw(instance(1, segmentation))


@pytest.fixture
def coco(tmp_path):
    """Four images of 40x50: a person, a small bottle, a toothbrush, nothing."""
    folder = tmp_path / 'train2017'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:012d}.jpg')
    content = dict(
        images=[
            dict(id=i + 10, file_name=f'{i:012d}.jpg', height=HEIGHT, width=WIDTH) for i in range(4)
        ],
        annotations=[
            dict(id=1, image_id=10, category_id=1, segmentation=rectangle(0, 0, 50, 30)),
            dict(id=2, image_id=11, category_id=44, segmentation=rectangle(0, 0, 10, 10)),
            dict(id=3, image_id=12, category_id=90, segmentation=rectangle(0, 0, 50, 40)),
        ],
        categories=[dict(id=i, name=name) for i, name in CATEGORIES.items()],
    )
    annotations = tmp_path / 'instances_train2017.json'
    annotations.write_text(json.dumps(content))
    return annotations, folder, tmp_path / 'out'


def masks(out):
    return sorted(p.name for p in (out / 'SegmentationClass').iterdir())


def edit(coco, **changes):
    content = json.loads(coco[0].read_text())
    coco[0].write_text(json.dumps({**content, **changes}))


def test_masks_and_list_hold_what_is_large_enough(coco):
    out = coco[2]
    done = convert_coco_to_voc(*coco)
    assert (done.listed, done.written, done.too_small) == (1, 1, 1)
    assert done.list_file == out / 'ImageSets/Segmentation/train2017.txt'
    assert done.list_file.read_text() == '000000000000\n'
    assert masks(out) == ['000000000000.png']
    with Image.open(out / 'SegmentationClass/000000000000.png') as image:
        assert image.mode == 'P'
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
        np.testing.assert_array_equal(
            np.asarray(image), np.repeat([PERSON, 0], [30, 10])[:, None].repeat(WIDTH, 1)
        )


@pytest.mark.parametrize(('min_pixels', 'listed'), [(100, 2), (101, 1), (1500, 1), (1501, 0)])
def test_min_pixels_counts_labelled_pixels(coco, min_pixels, listed):
    assert convert_coco_to_voc(*coco, min_pixels=min_pixels).listed == listed


def test_ignored_pixels_are_not_counted(coco):
    everything = run_lengths(np.ones((HEIGHT, WIDTH), bool))
    crowd = dict(id=1, image_id=10, category_id=1, segmentation=everything, iscrowd=1)
    edit(coco, annotations=[crowd])
    done = convert_coco_to_voc(*coco, min_pixels=1)
    assert (done.listed, done.too_small) == (0, 1)


def test_mmseg_reads_the_result(coco):
    from mmengine.registry import init_default_scope
    from mmseg.datasets import PascalVOCDataset

    done = convert_coco_to_voc(*coco, min_pixels=1)
    init_default_scope('mmseg')
    dataset = PascalVOCDataset(
        ann_file=str(done.list_file),
        data_prefix=dict(img_path=str(coco[1]), seg_map_path=str(coco[2] / 'SegmentationClass')),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
    )
    assert len(dataset) == 2
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:10, :10] = BOTTLE
    np.testing.assert_array_equal(dataset[1]['gt_seg_map'], expected)
    assert dataset[1]['img'].shape == (HEIGHT, WIDTH, 3)


def test_a_second_run_keeps_complete_masks_and_fixes_others(coco):
    folder = coco[2] / 'SegmentationClass'
    convert_coco_to_voc(*coco, min_pixels=1)
    kept, damaged = (folder / f'{i:012d}.png' for i in range(2))
    before, content = kept.stat().st_mtime_ns, damaged.read_bytes()
    damaged.write_bytes(content[:60])
    done = convert_coco_to_voc(*coco, min_pixels=1)
    assert (done.listed, done.written) == (2, 1)
    assert kept.stat().st_mtime_ns == before
    assert damaged.read_bytes() == content

    Image.new('P', (4, 4)).save(damaged)
    assert convert_coco_to_voc(*coco, min_pixels=1).written == 1
    assert damaged.read_bytes() == content


def test_an_interruption_leaves_no_part_of_a_mask(coco, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Image.Image, 'save', interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_coco_to_voc(*coco)
    assert masks(coco[2]) == []
    assert not (coco[2] / 'ImageSets').exists()
    assert convert_coco_to_voc(*coco).written == 1


def test_names_in_folders_keep_their_folders(coco):
    (coco[1] / 'a').mkdir()
    shutil.move(coco[1] / '000000000000.jpg', coco[1] / 'a')
    images = json.loads(coco[0].read_text())['images']
    images[0]['file_name'] = 'a/000000000000.jpg'
    edit(coco, images=images)
    done = convert_coco_to_voc(*coco)
    assert done.list_file.read_text() == 'a/000000000000\n'
    assert (coco[2] / 'SegmentationClass/a/000000000000.png').is_file()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, r'no annotation file .*instances_train2017.json.*cocodataset.org'),
        ('{"images": [', 'cannot be read as JSON'),
        ('{"images": []}', 'has no `annotations`'),
        ('[]', 'is no COCO annotation file'),
    ],
)
def test_other_annotation_files_are_refused(coco, content, message):
    coco[0].unlink() if content is None else coco[0].write_text(content)
    with pytest.raises(UserError, match=message):
        convert_coco_to_voc(*coco)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(categories=[dict(id=i, name='cup') for i in CATEGORIES]),
            r"None of the categories .*\['cup'.*aeroplane, bicycle",
        ),
        (
            dict(annotations=[dict(id=9, image_id=10, category_id=2)]),
            'Annotation 9 in .* is of category 2, which the file does not list',
        ),
        (
            dict(annotations=[dict(id=9, image_id=99, category_id=1)]),
            'Annotation 9 in .* is of image 99, which the file does not list',
        ),
        (
            dict(images=[dict(id=i, file_name='../a.jpg') for i in range(10, 14)]),
            r"inside the folder, got '../a.jpg'",
        ),
        (
            dict(images=[dict(id=i, file_name=f'a.{i}') for i in range(10, 14)]),
            r'extensions \.10, \.11; mmseg needs',
        ),
    ],
)
def test_annotations_that_do_not_fit_are_refused(coco, changes, message):
    edit(coco, **changes)
    with pytest.raises(UserError, match=message):
        convert_coco_to_voc(*coco)
    assert not coco[2].exists()


def test_missing_images_are_counted_before_anything_is_written(coco):
    (coco[1] / '000000000001.jpg').unlink()
    with pytest.raises(UserError, match=r'1 of 2 images named .* first is .*000000000001.jpg'):
        convert_coco_to_voc(*coco)
    assert not coco[2].exists()
    with pytest.raises(UserError, match=r'folder of images .* does not exist'):
        convert_coco_to_voc(coco[0], coco[1] / 'absent', coco[2])


def test_images_without_vocs_classes_need_not_exist(coco):
    (coco[1] / '000000000002.jpg').unlink()
    assert convert_coco_to_voc(*coco).listed == 1


def test_min_pixels_is_positive(coco):
    with pytest.raises(UserError, match='`min_pixels` must be at least 1, got 0'):
        convert_coco_to_voc(*coco, min_pixels=0)
