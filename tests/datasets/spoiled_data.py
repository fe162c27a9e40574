"""Configs on data to spoil, ways to spoil them, and how their faults are reported."""

import copy
import functools
import json

import numpy as np
import pytest
from broken_images import encode
from paths import ROOT
from PIL import Image

from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.errors import UserError

FOLDERS = 'classification/edgenext-xxsmall_1xb64-30e_folder.py'
DIGITS = 'classification/edgenext-xxsmall_digits.py'
DETECTION = 'detection/ssdlite_edgenext-xxsmall_digits.py'
SEGMENTATION = 'segmentation/deeplabv3_edgenext-xxsmall_digits.py'
ROTATED = 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py'
SPLITS = ('train', 'val', 'test')


_load = functools.cache(load_config)


def config_on(path, root, **dataset):
    """A shipped config on the data in a folder, with settings of its data sets."""
    config = copy.deepcopy(_load(ROOT / 'configs' / path))
    for split in SPLITS:
        config[f'{split}_dataloader'].dataset.update(data_root=f'{root}/', **dataset)
    if path == DETECTION:
        for split in ('val', 'test'):
            config[f'{split}_evaluator'].ann_file = str(root / 'annotations' / 'val.json')
    return config


def list_config(root, lines):
    """The digits config with a list of training images and labels."""
    (root / 'train.txt').write_text('\n'.join(lines))
    config = config_on(DIGITS, root)
    config.train_dataloader.dataset.ann_file = 'train.txt'
    config.train_dataloader.dataset.metainfo = dict(classes=tuple('0123456789'))
    return config


def change_coco(scenes, change, splits=('train',)):
    """Changes COCO files by a function; returns its last result."""
    for split in splits:
        path = scenes / 'annotations' / f'{split}.json'
        content = json.loads(path.read_text())
        result = change(content)
        path.write_text(json.dumps(content))
    return result


def spoil_boxes(coco):
    """Gives the first annotations wrong boxes; returns the names of images and kinds of faults."""
    nan, inf = float('nan'), float('inf')
    boxes = [
        ([nan, 0, 9, 9], 'box_not_finite'), ([3, 3, inf, 9], 'box_not_finite'),
        ([60, 60, -20, 10], 'box_negative'), ([60, 60, 10, -20], 'box_negative'),
        ([200, 10, 30, 30], 'box_outside'), ([10, -50, 30, 30], 'box_outside'),
        ([10, 10, 0, 30], 'box_empty'), ([110, 10, 30, 30], 'box_partly_outside'),
    ]  # fmt: skip
    names = {image['id']: image['file_name'] for image in coco['images']}
    expected = set()
    for annotation, (box, kind) in zip(coco['annotations'], boxes, strict=False):
        annotation['bbox'] = box
        expected.add((names[annotation['image_id']], kind))
    return expected


def spoil_masks(scenes):
    """Spoils seven masks and an image; returns the names of files and kinds of faults."""
    masks = scenes / 'train' / 'masks'
    arrays = {
        '0001': np.zeros((64, 128), np.uint8),
        '0002': np.full((128, 128), 99, np.uint8),
        '0003': np.full((128, 128), 259, np.uint16),  # 3 in eight bits
        '0004': np.zeros((128, 128, 3), np.uint8),
    }
    for name, array in arrays.items():
        (masks / f'{name}.png').write_bytes(encode(array, 'PNG'))
    (masks / '0000.png').unlink()
    content = (masks / '0005.png').read_bytes()
    # Pillow reads the rest as zeros, which is the background.
    (masks / '0005.png').write_bytes(content[: len(content) // 2].ljust(len(content), b'\0'))
    (masks / '0006.png').write_bytes(b'')
    (scenes / 'train' / 'images' / '0007.png').write_bytes(b'GIF89a')
    return {
        ('0000.png', 'missing_mask'), ('0001.png', 'mask_size'), ('0002.png', 'mask_value'),
        ('0003.png', 'mask_value'), ('0004.png', 'mask_mode'), ('0005.png', 'truncated'),
        ('0006.png', 'empty_file'), ('0007.png', 'unreadable'),
    }  # fmt: skip


def change_masks(scenes, change):
    for path in (scenes / 'train' / 'masks').iterdir():
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def assert_refused(config, split, message, kind=None):
    """The start of a training raises an error, and tools/check_dataset.py reports the same."""
    with pytest.raises(UserError, match=message) as error:
        check_data(config, split)
    problems = [p for p in inspect_data(config, [split])[split].problems if p.is_error]
    same = [p for p in problems if p.detail.rstrip('.') in str(error.value)]
    assert same
    assert kind in (None, same[0].kind)


def warnings_of(config, kind, split='train'):
    """Warnings of tools/check_dataset.py, after making sure that training starts."""
    check_data(config, split)
    return [p.detail for p in inspect_data(config, [split])[split].problems if p.kind == kind]


def found(report):
    """Pairs of a file's name and a kind; few images do not show every class."""
    pairs = {(problem.file.rsplit('/', 1)[-1], problem.kind) for problem in report.problems}
    return {pair for pair in pairs if pair[1] != 'empty_class'}
