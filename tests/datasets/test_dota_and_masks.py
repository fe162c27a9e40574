"""DOTA labels and masks with faults that mmrotate and mmseg pass over."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from broken_images import encode
from mmengine.config import Config, ConfigDict
from PIL import Image
from spoiled_data import (
    ROTATED,
    SEGMENTATION,
    assert_refused,
    change_masks,
    config_on,
    found,
    spoil_masks,
    warnings_of,
)

from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.datasets.checks.masks import MaskSource
from edgenext_mm.errors import UserError


def write(text):
    return lambda folder: (folder / '0001.txt').write_text(text)


def append(content):
    return lambda f: (f / '0001.txt').write_bytes((f / '0001.txt').read_bytes() + content)


def each_object(change):
    """Changes the fields of all objects."""

    def change_all(folder):
        for path in folder.iterdir():
            fields = [change(line.split()) for line in path.read_text().splitlines()]
            path.write_text('\n'.join(map(' '.join, fields)))

    return change_all


@pytest.mark.parametrize(
    ('change', 'kind', 'message'),
    [
        (write('0 0 1 0 1 1 0 1 cat 0'), 'label_range', r"0001.txt:1 is of class 'cat'. The"),
        (write('0 0 1 0 1 1 0 1 7'), 'malformed', "is '0 0 1 0 1 1 0 1 7'. A line of DOTA"),
        (write('imagesource:GoogleEarth'), 'malformed', 'removes the header lines'),
        (write('0 0 1 0 1 nan 0 1 7 0'), 'malformed', 'A line of DOTA labels is'),
        (write('1 1 9 1 9 9 1 9 3 0.0'), 'malformed', 'is an integer'),
        (write('\ufeff1 1 9 1 9 9 1 9 3 0'), 'malformed', 'byte order marks'),
        (append(b'\n1 1 9 1 9 9 1 9 \xe9 0'), 'malformed', r'0001\.txt is not UTF-8'),
        (append(b'\n\n'), 'malformed', r'0001\.txt:\d is \'\''),
        (lambda f: [p.write_text('') for p in f.iterdir()], 'no_objects', '0 objects in 8 label'),
        (each_object(lambda f: ['5'] * 8 + f[8:]), 'no_objects', 'can be used: 18 are of area 0'),
        (
            each_object(lambda f: [*(str(float(v) / 128) for v in f[:8]), *f[8:]]),
            'box_units', '18 of 18 objects within 0 to 1',
        ),
        (lambda f: [path.unlink() for path in f.iterdir()], 'structure', 'contains no label file'),
    ],
)  # fmt: skip
def test_label_files_of_dota(scenes, change, kind, message):
    change(scenes / 'train' / 'labelTxt')
    assert_refused(config_on(ROTATED, scenes), 'train', message, kind)


def test_files_of_dota_without_faults(scenes):
    """mmrotate leaves out hidden files, which macOS adds to archives."""
    for path in ('labelTxt/._0003.txt', 'images/._0003.png'):
        (scenes / 'train' / path).write_bytes(b'\x00\x05\x16\x07')
    (scenes / 'train' / 'labelTxt' / '0004.txt').write_bytes(b'1 1 99 1 99 99 1 99 3 0\r\n')
    config = config_on(ROTATED, scenes)
    check_data(config, 'train')
    assert found(inspect_data(config, ['train'])['train']) == set()


def test_images_and_label_files_of_dota_that_are_missing(scenes):
    labels = scenes / 'train' / 'labelTxt'
    (labels / '0002.txt').unlink()
    (labels / '0003.txt').write_text('')
    (detail,) = warnings_of(config_on(ROTATED, scenes), 'left_out_image')
    assert "no label file for 1 of 8 images, which are left out: '0002.png'" in detail
    (scenes / 'train' / 'images' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 7 images .* The first is .*/0005\.png'):
        check_data(config_on(ROTATED, scenes), 'train')


def test_boxes_and_images_of_dota(scenes):
    labels, images = scenes / 'train' / 'labelTxt', scenes / 'train' / 'images'
    (labels / '0000.txt').write_text('-90 -90 -50 -90 -50 -50 -90 -50 3 0')
    (labels / '0001.txt').write_text('20 20 20 20 20 20 20 20 3 0')
    (images / '0003.png').unlink()
    (images / '0004.png').write_bytes(b'<html>')
    assert found(inspect_data(config_on(ROTATED, scenes), ['train'])['train']) == {
        ('0000.png', 'box_outside'), ('0001.png', 'box_empty'), ('0003.png', 'missing_image'),
        ('0004.png', 'unreadable'),
    }  # fmt: skip


def test_every_broken_mask_is_found(scenes):
    expected = spoil_masks(scenes)
    assert found(inspect_data(config_on(SEGMENTATION, scenes), ['train'])['train']) == expected


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (np.full((128, 128), 11), r'0002.png has the value 11. .* 0 to 10, or 255 for ignored'),
        (np.zeros((128, 128, 3)), '0002.png is a colour image'),
        (np.zeros((64, 32)), 'has 32x64 pixels, but its image has 128x128'),
    ],
)
def test_a_wrong_mask_is_found_before_training(scenes, mask, message):
    (scenes / 'train/masks/0002.png').write_bytes(encode(mask.astype(np.uint8), 'PNG'))
    assert_refused(config_on(SEGMENTATION, scenes), 'train', message)


def test_values_that_are_shifted_or_ignored(scenes):
    config = config_on(SEGMENTATION, scenes)
    (scenes / 'train/masks/0002.png').write_bytes(encode(np.full((128, 128), 255, np.uint8), 'PNG'))
    check_data(config, 'train')
    (scenes / 'train/masks/0002.png').write_bytes(encode(np.full((128, 128), 11, np.uint8), 'PNG'))
    config.train_dataloader.dataset.reduce_zero_label = True
    check_data(config, 'train')


def test_values_that_a_config_maps_to_other_classes(scenes):
    masks, images = scenes / 'train' / 'masks', scenes / 'train' / 'images'
    pairs = [dict(img_path=images / p.name, seg_map_path=p) for p in sorted(masks.iterdir())]
    mapped = [dict(pair, label_map={i: i % 2 for i in range(11)}) for pair in pairs]
    for data_list, is_wrong in ((pairs, True), (mapped, False)):
        lazy = SimpleNamespace(load_data_list=lambda d=data_list: d, reduce_zero_label=False)
        problems = MaskSource(Config(), ConfigDict(), lazy, num_classes=2).content_problems()
        assert any(problem.is_error for problem in problems) == is_wrong


def test_missing_masks_and_an_empty_data_set(scenes):
    config = config_on(SEGMENTATION, scenes)
    (scenes / 'train' / 'masks' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 8 masks do not exist. The first is .*/0005\.png'):
        check_data(config, 'train')
    for path in (scenes / 'train' / 'images').iterdir():
        path.unlink()
    with pytest.raises(UserError, match='The data set names no images'):
        check_data(config, 'train')


@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_masks_of_0_and_255(scenes, reduce_zero_label):
    change_masks(scenes, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8))
    config = config_on(SEGMENTATION, scenes)
    config.train_dataloader.dataset.reduce_zero_label = reduce_zero_label
    only = 'no class' if reduce_zero_label else 'only the class 0'
    assert_refused(config, 'train', f'show {only} in 8 masks: all other', 'masks_ignored')
    with pytest.raises(UserError, match=f'show {only}'):
        check_data(config, 'train', samples=False)  # as with the policy to skip bad samples


def test_masks_of_one_class(scenes):
    config = config_on(SEGMENTATION, scenes)
    change_masks(scenes, lambda mask: mask > 0)  # one bit, 0 and 1
    assert not warnings_of(config, 'masks_one_class')
    change_masks(scenes, lambda mask: np.zeros_like(mask, np.uint8))
    assert warnings_of(config, 'masks_one_class') == ['show only the class 0 in 8 masks.']


def test_palettes_of_masks_that_disagree(scenes):
    config = config_on(SEGMENTATION, scenes)
    for index, path in enumerate(sorted((scenes / 'train' / 'masks').iterdir())):
        mask = Image.fromarray(np.array(Image.open(path))).convert('P')
        mask.putpalette([0, 0, 0] + ([0, 0, 200] if index == 3 else [200, 0, 0]) * 255)
        mask.save(path)
    details = warnings_of(config, 'mask_palette')
    assert {colour for line in details for colour in re.findall(r'\(\d+, 0, \d+\)', line)} == {
        '(200, 0, 0)', '(0, 0, 200)'
    }  # fmt: skip


def test_another_value_for_ignored_pixels(scenes):
    change_masks(scenes, lambda mask: np.where(mask == 0, 250, mask).astype(np.uint8))
    config = config_on(SEGMENTATION, scenes)
    assert_refused(config, 'train', 'has the value 250', 'mask_value')
    config.model.decode_head.ignore_index = 250
    check_data(config, 'train')
    assert inspect_data(config, ['train'])['train'].count('error') == 0


def test_images_with_other_extensions_in_a_segmentation(scenes):
    images = scenes / 'train' / 'images'
    shutil.copy(images / '0001.png', images / '0009.jpg')
    shutil.copy(images / '0001.png', images / '0010.PNG')
    (detail,) = warnings_of(config_on(SEGMENTATION, scenes), 'left_out_file')
    assert "'0009.jpg', '0010.PNG'. The data set reads .png" in detail
