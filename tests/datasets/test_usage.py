"""Annotations that the libraries leave out, misread or stop at after an epoch."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from test_classes import DETECTION, ROTATED, SEGMENTATION, dense_config

from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.errors import UserError


def change_coco(scenes, change):
    for split in ('train', 'val'):
        path = scenes / 'annotations' / f'{split}.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def each(section, **changes):
    """A change of every entry; None removes a key."""

    def change(content):
        for index, entry in enumerate(content[section]):
            for key, value in changes.items():
                result = value(index, entry) if callable(value) else value
                entry.pop(key, None) if result is None else entry.update({key: result})

    return change


def to_corners(_, entry):
    x, y, width, height = entry['bbox']
    return [x, y, x + width, y + height]


def quick_and_full(config, split):
    """What the start of a training says, and all errors of tools/check_dataset.py."""
    with pytest.raises(UserError) as error:
        check_data(config, split)
    found = inspect_data(config, [split])[split].problems
    errors = [finding for finding in found if finding.is_error]
    assert any(finding.detail.rstrip('.') in str(error.value) for finding in errors)
    return str(error.value)


@pytest.mark.parametrize(
    ('change', 'split', 'message'),
    [
        (each('annotations', iscrowd=None), 'val', r'no `iscrowd` in annotations\[0\] \(9 of 9'),
        (each('annotations', iscrowd='0'), 'train', "'0' as `iscrowd` of annotations"),
        (each('annotations', id=lambda i, _: f'{i + 1}'), 'train', "has '1' as `id`"),
        (each('annotations', id=lambda i, _: f'{i + 1}'), 'val', "has '1' as `id`"),
        (each('annotations', image_id='0'), 'train', "of image '0', which its `images`"),
        (lambda c: c['annotations'][3].update(bbox=None), 'train', r'None as `bbox`.*\[3\]\. It'),
        (lambda c: c['annotations'][3].update(area=None), 'train', r'None as `area`.*\[3\]\. It'),
        (each('annotations', area='9'), 'val', "has '9' as `area`"),
        (each('images', width=None), 'train', 'no `width` in images'),
        (each('images', height='96'), 'train', "'96' as `height`"),
        (each('categories', name=None), 'train', r'no `name` in categories\[0\] \(10 of 10'),
        (lambda c: c.update(annotations=None), 'train', 'has null as `annotations`'),
        (lambda c: c.update(images={}), 'train', 'has dict as `images`'),
        (lambda c: c['annotations'].append(3), 'train', 'has 3 as annotations'),
        (lambda c: c.update(annotations=[]), 'train', 'has 0 boxes in 8 images, none of which'),
        (lambda c: c.update(annotations=[]), 'val', 'has 0 boxes in 4 images, none of which'),
        (each('annotations', iscrowd=1), 'train', '18 are marked as a crowd'),
        (each('annotations', area=0), 'train', '18 boxes in 8 images, none .* are of area 0'),
        (each('annotations', segmentation='abc'), 'train', 'neither polygons nor run lengths'),
        (each('annotations', segmentation=[[None] * 6]), 'train', 'neither polygons nor run'),
        (each('annotations', bbox=lambda _, e: [v / 128 for v in e['bbox']]), 'train', '18 of 18 '),
        (each('annotations', bbox=to_corners), 'train', r'two corners .* but 14 of them'),
        (each('annotations', bbox=to_corners), 'val', r'Write x1, y1, x2 - x1, y2 - y1'),
        (lambda c: c['categories'][5].update(name='4'), 'train', "no category named '5'"),
    ],
)
def test_coco_files(scenes, change, split, message):
    change_coco(scenes, change)
    assert re.search(message, quick_and_full(dense_config(scenes, DETECTION), split))


def coco_dataset(scenes, split='train'):
    config = dense_config(scenes, DETECTION)
    init_default_scope('mmdet')
    return DATASETS.build({**config[f'{split}_dataloader'].dataset, 'pipeline': []})


def told_of(config, kind, split='train'):
    """Warnings of tools/check_dataset.py, after making sure that training starts."""
    check_data(config, split)
    return [f.detail for f in inspect_data(config, [split])[split].problems if f.kind == kind]


def leave_out_some(content):
    content['categories'].append(dict(id=99, name='cat'))
    for index, entry in enumerate(content['annotations']):
        if index % 3 == 0:
            entry['category_id'] = 99
        elif index % 4 == 0:
            entry['area'] = 0
        elif index % 5 == 0:
            entry['iscrowd'] = 1
    content['annotations'][7]['bbox'][0] = 500


@pytest.mark.parametrize('filter_cfg', [None, dict(min_size=100)])
def test_the_boxes_that_are_left_out_are_counted_as_mmdet_does(scenes, filter_cfg):
    change_coco(scenes, leave_out_some)
    path = scenes / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    content['images'][6].update(width=99)
    path.write_text(json.dumps(content))
    config = dense_config(scenes, DETECTION)
    config.train_dataloader.dataset.filter_cfg = filter_cfg
    init_default_scope('mmdet')
    dataset = DATASETS.build({**config.train_dataloader.dataset, 'pipeline': []})
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    used = sum(not box['ignore_flag'] for sample in samples for box in sample['instances'])
    findings = inspect_data(config, ['train'])['train'].problems
    (detail,) = [problem.detail for problem in findings if problem.kind == 'left_out_box']
    assert detail.startswith(f'has 18 boxes, of which {used} are used: ')
    assert "6 are of categories that the config leaves out ('cat' 6)" in detail


def test_left_out_boxes_are_a_warning(scenes):
    change_coco(scenes, leave_out_some)
    content = json.loads((scenes / 'annotations' / 'train.json').read_text())
    content['annotations'][7]['bbox'][0] = 10
    (scenes / 'annotations' / 'train.json').write_text(json.dumps(content))
    (told,) = told_of(dense_config(scenes, DETECTION), 'left_out_box')
    assert "'cat' 6" in told


def evaluate(scenes):
    """mAP of the truth itself."""
    dataset = coco_dataset(scenes, 'val')
    metric = CocoMetric(ann_file=str(scenes / 'annotations' / 'val.json'))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        boxes = torch.tensor([box['bbox'] for box in sample['instances']]).float()
        labels = torch.tensor([box['bbox_label'] for box in sample['instances']])
        predicted = dict(bboxes=boxes, labels=labels, scores=torch.ones(len(boxes)))
        shape = (sample['height'], sample['width'])
        truth = dict(img_id=sample['img_id'], ori_shape=shape, pred_instances=predicted)
        metric.process({}, [truth])
    return metric.evaluate(len(dataset))['coco/bbox_mAP']


def test_an_annotation_with_the_id_zero_is_evaluated_wrongly(scenes):
    assert evaluate(scenes) == 1
    change_coco(scenes, each('annotations', id=lambda index, _: index))
    assert evaluate(scenes) < 1
    (told,) = told_of(dense_config(scenes, DETECTION), 'annotation_zero', 'val')
    assert 'Number annotations from 1' in told
    assert not told_of(dense_config(scenes, DETECTION), 'annotation_zero', 'train')


def test_what_pycocotools_takes_is_no_fault(scenes):
    change_coco(
        scenes, each('annotations', iscrowd=False, image_id=lambda _, e: f'{e["image_id"]}')
    )
    change_coco(scenes, each('images', id=lambda _, entry: f'{entry["id"]}', height=128.0))
    assert evaluate(scenes) == 1
    check_data(dense_config(scenes, DETECTION), 'train', 'val')


def test_outlines_are_needed_where_masks_are_loaded_or_evaluated(scenes):
    change_coco(scenes, lambda content: content['annotations'][2].pop('segmentation'))
    config = dense_config(scenes, DETECTION)
    check_data(config, 'train', 'val')
    loader = next(s for s in config.train_dataloader.dataset.pipeline if 'Annot' in s.type)
    loader.with_mask = True
    config.val_evaluator.metric = ['bbox', 'segm']
    for split in ('train', 'val'):
        message = quick_and_full(config, split)
        assert 'no `segmentation` in annotations[2]' in message


def append(path, text):
    path.write_bytes(path.read_bytes() + text.encode('latin-1'))


def shrink_labels(folder):
    for path in folder.iterdir():
        fields = [line.split() for line in path.read_text().splitlines()]
        lines = [[*(str(float(v) / 128) for v in f[:8]), *f[8:]] for f in fields]
        path.write_text('\n'.join(map(' '.join, lines)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda f: append(f / '0001.txt', '\n1 1 9 1 9 9 1 9 \xe9 0'), r'0001\.txt is not UTF-8'),
        (lambda f: (f / '0001.txt').write_text('\ufeff1 1 9 1 9 9 1 9 3 0'), 'byte order marks'),
        (lambda f: append(f / '0001.txt', '\n\n'), r'0001\.txt:\d is \'\''),
        (lambda f: (f / '0001.txt').write_text('1 1 9 1 9 9 1 9 3 0.0'), 'is an integer'),
        (lambda f: (f / '0001.txt').write_text('1 1 9 1 9 9 1 9 3'), 'A line of DOTA labels'),
        (lambda f: [path.write_text('') for path in f.iterdir()], '0 objects in 8 label files'),
        (shrink_labels, r'18 of 18 objects within 0 to 1'),
    ],
)
def test_label_files_of_dota(scenes, change, message):
    change(scenes / 'train' / 'labelTxt')
    assert re.search(message, quick_and_full(dense_config(scenes, ROTATED), 'train'))


def test_images_without_a_label_file(scenes):
    labels = scenes / 'train' / 'labelTxt'
    (labels / '0002.txt').unlink()
    (labels / '0003.txt').write_text('')
    (labels / '0004.txt').write_bytes(b'1 1 99 1 99 99 1 99 3 0\r\n')
    (told,) = told_of(dense_config(scenes, ROTATED), 'left_out_image')
    assert "no label file for 1 of 8 images, which are left out: '0002.png'" in told


def change_masks(scenes, change):
    for path in (scenes / 'train' / 'masks').iterdir():
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_masks_of_0_and_255(scenes, reduce_zero_label):
    change_masks(scenes, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8))
    config = dense_config(scenes, SEGMENTATION)
    config.train_dataloader.dataset.reduce_zero_label = reduce_zero_label
    only = 'no class' if reduce_zero_label else 'only the class 0'
    assert f'show {only} in 8 masks: all other' in quick_and_full(config, 'train')
    with pytest.raises(UserError, match=r'show only the class|show no class'):
        check_data(config, 'train', samples=False)  # as with the policy to skip bad samples
    change_masks(scenes, lambda mask: mask > 0)  # one bit, 0 and 1
    config.train_dataloader.dataset.reduce_zero_label = False
    assert not told_of(config, 'masks_one_class')
    change_masks(scenes, lambda mask: np.zeros_like(mask, np.uint8))
    assert told_of(config, 'masks_one_class') == ['show only the class 0 in 8 masks.']


def test_palettes_of_masks_that_disagree(scenes):
    config = dense_config(scenes, SEGMENTATION)
    paths = sorted((scenes / 'train' / 'masks').iterdir())
    for path in paths:
        mask = Image.fromarray(np.array(Image.open(path))).convert('P')
        mask.putpalette([0, 0, 0] + [200, 0, 0] * 255)
        mask.save(path)
    assert not told_of(config, 'mask_palette')
    mask = Image.open(paths[3])
    mask.putpalette([0, 0, 0] + [0, 0, 200] * 255)
    mask.save(paths[3])
    told = told_of(config, 'mask_palette')
    assert {colour for line in told for colour in re.findall(r'\(\d+, 0, \d+\)', line)} == {
        '(200, 0, 0)', '(0, 0, 200)'
    }  # fmt: skip


def test_another_value_for_ignored_pixels(scenes):
    change_masks(scenes, lambda mask: np.where(mask == 0, 250, mask).astype(np.uint8))
    config = dense_config(scenes, SEGMENTATION)
    assert 'has the value 250' in quick_and_full(config, 'train')
    config.model.decode_head.ignore_index = 250
    check_data(config, 'train')
    assert inspect_data(config, ['train'])['train'].count('error') == 0


def test_images_of_other_endings_beside_those_of_a_segmentation(scenes):
    images = scenes / 'train' / 'images'
    shutil.copy(images / '0001.png', images / '0009.jpg')
    shutil.copy(images / '0001.png', images / '0010.PNG')
    (told,) = told_of(dense_config(scenes, SEGMENTATION), 'left_out_file')
    assert "'0009.jpg', '0010.PNG'. The data set reads .png" in told


def test_dota_objects_of_no_area(scenes):
    for path in (scenes / 'train' / 'labelTxt').iterdir():
        lines = path.read_text().splitlines()
        path.write_text('\n'.join('5 5 5 5 5 5 5 5 ' + line.split(' ', 8)[8] for line in lines))
    config = dense_config(scenes, ROTATED)
    assert re.search(
        r'none of which can be used: 18 are of area 0', quick_and_full(config, 'train')
    )
