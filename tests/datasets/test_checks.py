"""Annotations that do not fit their images or the classes of a config."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from PIL import Image
from test_classes import DETECTION, ROTATED, SEGMENTATION, dense_config, folder_config

from edgenext_mm.datasets.checks.config_data import check_data, find_source, leaves
from edgenext_mm.datasets.checks.masks import MaskSource
from edgenext_mm.errors import UserError

DIGITS = tuple('0123456789')


@pytest.fixture
def coco(scenes):
    """Runs the check on annotations that a function has changed."""

    def check(change=lambda content: None, classes=DIGITS):
        path = scenes / 'annotations' / 'train.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        config = dense_config(scenes, DETECTION)
        for split in ('train', 'val', 'test'):
            config[f'{split}_dataloader'].dataset.metainfo.classes = classes
        config.model.bbox_head.num_classes = len(classes)
        check_data(config, 'train')

    return check


def test_what_fits_passes(coco, scenes):
    coco()
    check_data(dense_config(scenes, ROTATED), 'train')
    check_data(dense_config(scenes, SEGMENTATION), 'train')


def test_some_of_the_categories_are_enough(coco):
    coco(classes=('3', '7'))


def test_a_class_that_the_file_lacks(coco):
    with pytest.raises(UserError, match=r"has no category named 'cat'. It has '0', '1'"):
        coco(classes=('0', 'cat'))


def test_classes_in_another_order(coco):
    with pytest.raises(UserError, match=r"in the order '0', '1'. mmdet numbers them as the file"):
        coco(classes=('1', '0'))


def test_an_annotation_of_an_unknown_category(coco):
    def change(content):
        content['annotations'][3]['category_id'] = 99

    with pytest.raises(UserError, match=r'has annotation 4 of category 99, which'):
        coco(change)


def test_a_file_that_is_cut_short(scenes):
    path = scenes / 'annotations' / 'train.json'
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match='cannot be read as JSON'):
        check_data(dense_config(scenes, DETECTION), 'train')


def test_a_file_that_is_something_else(scenes):
    (scenes / 'annotations' / 'train.json').write_text('[1, 2]')
    with pytest.raises(UserError, match='has no `images`, so it is no COCO annotation file'):
        check_data(dense_config(scenes, DETECTION), 'train')


def test_a_missing_image(coco, scenes):
    (scenes / 'train' / 'images' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 8 images named in .* The first is .*/0005\.png'):
        coco()


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('0 0 1 0 1 1 0 1 cat 0', r"0003.txt:1 is of class 'cat'. The config has '0', '1'"),
        ('0 0 1 0 1 1 0 1 7', r"0003.txt:1 is '0 0 1 0 1 1 0 1 7'. A line of DOTA labels is"),
        ('imagesource:GoogleEarth', 'removes the header lines'),
        ('0 0 1 0 1 x 0 1 7 0', 'A line of DOTA labels is'),
    ],
)
def test_a_line_that_is_no_label(scenes, line, message):
    (scenes / 'train' / 'labelTxt' / '0003.txt').write_text(line)
    with pytest.raises(UserError, match=message):
        check_data(dense_config(scenes, ROTATED), 'train')


def test_hidden_files_beside_labels_are_none_of_dota(scenes):
    """mmrotate leaves out what macOS adds to archives."""
    (scenes / 'train' / 'labelTxt' / '._0003.txt').write_bytes(b'\x00\x05\x16\x07')
    (scenes / 'train' / 'images' / '._0003.png').write_bytes(b'\x00\x05\x16\x07')
    config = dense_config(scenes, ROTATED)
    check_data(config, 'train')
    (dataset,) = leaves(config.train_dataloader.dataset)
    assert list(find_source(config, dataset).problems('train')) == []


def test_a_missing_image_of_dota(scenes):
    (scenes / 'train' / 'images' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 8 images .* The first is .*/0005\.png'):
        check_data(dense_config(scenes, ROTATED), 'train')
    for path in (scenes / 'train' / 'labelTxt').iterdir():
        path.unlink()
    with pytest.raises(UserError, match='contains no label file'):
        check_data(dense_config(scenes, ROTATED), 'train')


def write_mask(scenes, value, shape=(128, 128)):
    Image.fromarray(np.full(shape, value, np.uint8)).save(scenes / 'train' / 'masks' / '0002.png')


def test_a_value_beyond_the_classes(scenes):
    write_mask(scenes, 11)
    config = dense_config(scenes, SEGMENTATION)
    with pytest.raises(UserError, match=r'0002.png has the value 11. .* 0 to 10, or 255'):
        check_data(config, 'train')
    config.train_dataloader.dataset.reduce_zero_label = True
    check_data(config, 'train')


def test_values_that_a_config_gives_to_other_classes(scenes):
    masks = sorted((scenes / 'train' / 'masks').iterdir())
    images = scenes / 'train' / 'images'
    pairs = [dict(img_path=images / path.name, seg_map_path=path) for path in masks]
    mapped = [dict(pair, label_map={i: i % 2 for i in range(11)}) for pair in pairs]
    for data_list, is_wrong in ((pairs, True), (mapped, False)):
        lazy = SimpleNamespace(load_data_list=lambda d=data_list: d, reduce_zero_label=False)
        problems = MaskSource(Config(), ConfigDict(), lazy, num_classes=2).content_problems()
        assert any(problem.is_error for problem in problems) == is_wrong


def test_ignored_pixels_are_fine(scenes):
    write_mask(scenes, 255)
    check_data(dense_config(scenes, SEGMENTATION), 'train')


def test_masks_of_another_kind_or_size(scenes):
    config = dense_config(scenes, SEGMENTATION)
    write_mask(scenes, 0, (128, 128, 3))
    with pytest.raises(UserError, match=r'0002.png is a colour image'):
        check_data(config, 'train')
    write_mask(scenes, 0, (64, 32))
    with pytest.raises(UserError, match='has 32x64 pixels, but its image has 128x128'):
        check_data(config, 'train')


def test_a_missing_mask_and_an_empty_set(scenes):
    config = dense_config(scenes, SEGMENTATION)
    (scenes / 'train' / 'masks' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 8 masks do not exist. The first is .*/0005\.png'):
        check_data(config, 'train')
    for path in (scenes / 'train' / 'images').iterdir():
        path.unlink()
    with pytest.raises(UserError, match='The data set names no images'):
        check_data(config, 'train')


def test_folders_of_images_name_the_classes_or_are_as_many(few_digits):
    check_data(folder_config(few_digits, 'CustomDataset', 10), 'train')
    animals = dict(metainfo=dict(classes=[f'animal {i}' for i in range(10)]))
    check_data(folder_config(few_digits, 'CustomDataset', 10, **animals), 'train')
    pets = dict(metainfo=dict(classes=['cat', 'dog']))
    with pytest.raises(UserError, match=r"contains 10 folders \('0', '1'.*has 2 classes \('cat'"):
        check_data(folder_config(few_digits, 'CustomDataset', 2, **pets), 'train')
    empty = folder_config(few_digits / 'train' / '0', 'CustomDataset', data_prefix='')
    with pytest.raises(UserError, match='contains no folders'):
        check_data(empty, 'train')
