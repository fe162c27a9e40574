"""COCO files with faults that mmdet and pycocotools pass over, or meet after an epoch."""

import json
import shutil

import pytest
import torch
from logs import logged
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, init_default_scope
from spoiled_data import (
    DETECTION,
    assert_refused,
    change_coco,
    config_on,
    found,
    spoil_boxes,
    warnings_of,
)

from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.errors import UserError

BOTH = ('train', 'val')


def each(section, **changes):
    """A change of every entry; None removes a key."""

    def change(content):
        for index, entry in enumerate(content[section]):
            for key, value in changes.items():
                result = value(index, entry) if callable(value) else value
                entry.pop(key, None) if result is None else entry.update({key: result})

    return change


def one(section, index, **changes):
    return lambda content: content[section][index].update(changes)


def repeat(section, **changes):
    return lambda content: content[section].append({**content[section][0], **changes})


def to_corners(_, entry):
    x, y, width, height = entry['bbox']
    return [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ('change', 'split', 'kind', 'message'),
    [
        (each('annotations', iscrowd=None), 'val', 'malformed', r'`iscrowd` in annotations\[0\]'),
        (each('annotations', iscrowd='0'), 'train', 'malformed', "'0' as `iscrowd` of annotations"),
        (each('annotations', id=lambda i, _: f'{i + 1}'), 'train', 'malformed', "has '1' as `id`"),
        (each('annotations', image_id='0'), 'train', 'orphan', "of image '0', which its `images`"),
        (one('annotations', 3, category_id=99), 'train', 'orphan', 'annotation 4 of category 99'),
        (one('annotations', 0, image_id=999), 'train', 'orphan', 'annotation 1 of image 999'),
        (one('annotations', 3, bbox=None), 'train', 'malformed', r'None as `bbox`.*\[3\]\. It'),
        (one('annotations', 3, area=None), 'train', 'malformed', r'None as `area`.*\[3\]\. It'),
        (each('annotations', area='9'), 'val', 'malformed', "has '9' as `area`"),
        (each('images', width=None), 'train', 'malformed', 'no `width` in images'),
        (each('images', height='96'), 'train', 'malformed', "'96' as `height`"),
        (each('categories', name=None), 'train', 'malformed', r'no `name` in categories\[0\] \(10'),
        (repeat('images', file_name='x.png'), 'train', 'duplicate_id', '2 images with the id 0'),
        (repeat('annotations'), 'train', 'duplicate_id', '2 annotations with the id 1'),
        (lambda c: c.update(annotations=None), 'train', 'structure', 'has null as `annotations`'),
        (lambda c: c.update(images={}), 'train', 'structure', 'has dict as `images`'),
        (lambda c: c.pop('images'), 'train', 'structure', 'so it is no COCO annotation file'),
        (lambda c: c['annotations'].append(3), 'train', 'malformed', 'has 3 as annotations'),
        (lambda c: c.update(annotations=[]), 'train', 'no_objects', '0 boxes in 8 images, none of'),
        (lambda c: c.update(annotations=[]), 'val', 'no_objects', '0 boxes in 4 images, none of'),
        (each('annotations', iscrowd=1), 'train', 'no_objects', '18 are marked as a crowd'),
        (each('annotations', area=0), 'train', 'no_objects', '18 boxes in 8 .* are of area 0'),
        (each('annotations', segmentation='abc'), 'train', 'malformed', 'neither polygons nor run'),
        (each('annotations', segmentation=[[None] * 6]), 'train', 'malformed', 'neither polygons'),
        (
            each('annotations', bbox=lambda _, e: [v / 128 for v in e['bbox']]),
            'train', 'box_units', '18 of 18 ',
        ),
        (each('annotations', bbox=to_corners), 'train', 'box_units', 'two corners .* but 14 of'),
        (each('annotations', bbox=to_corners), 'val', 'box_units', 'Write x1, y1, x2 - x1, y2'),
        (one('categories', 5, name='4'), 'train', 'classes', "no category named '5'. It has '0',"),
    ],
)  # fmt: skip
def test_faults(scenes, change, split, kind, message):
    change_coco(scenes, change, BOTH)
    assert_refused(config_on(DETECTION, scenes), split, message, kind)


def test_a_file_that_is_cut_short(scenes):
    path = scenes / 'annotations' / 'train.json'
    path.write_text(path.read_text()[:100])
    assert_refused(config_on(DETECTION, scenes), 'train', 'cannot be read as JSON', 'structure')


def test_a_missing_image(scenes):
    (scenes / 'train' / 'images' / '0005.png').unlink()
    with pytest.raises(UserError, match=r'1 of 8 images named in .* The first is .*/0005\.png'):
        check_data(config_on(DETECTION, scenes), 'train')


def test_other_images_are_read_beside_a_fault_of_entries(scenes):
    change_coco(scenes, repeat('annotations'))
    (scenes / 'train' / 'images' / '0005.png').write_bytes(b'')
    report = inspect_data(config_on(DETECTION, scenes), ['train'])['train']
    assert ('0005.png', 'empty_file') in found(report)


def test_a_malformed_entry_does_not_hide_other_faults(scenes):
    def change(content):
        one('annotations', 3, bbox=None)(content)
        one('annotations', 1, category_id=99)(content)
        one('annotations', 2, image_id=999)(content)
        repeat('images', file_name='other.png')(content)

    change_coco(scenes, change)
    report = inspect_data(config_on(DETECTION, scenes), ['train'])['train']
    kinds = [problem.kind for problem in report.problems]
    assert kinds[:4] == ['malformed', 'duplicate_id', 'orphan', 'orphan']


def test_boxes_and_outlines(scenes):
    def spoil(content):
        expected = spoil_boxes(content)
        names = {image['id']: image['file_name'] for image in content['images']}
        outlines = {
            'outline_short': [[1, 2, 3, 4]],
            'outline_not_finite': [[1, 2, float('nan'), 4, 5, 6]],
            'mask_size': dict(size=[3, 3], counts=[9]),
        }
        for entry, (kind, outline) in zip(
            content['annotations'][-3:], outlines.items(), strict=True
        ):
            entry['segmentation'] = outline
            expected.add((names[entry['image_id']], kind))
        return expected

    expected = change_coco(scenes, spoil)
    assert found(inspect_data(config_on(DETECTION, scenes), ['train'])['train']) == expected
    assert len(expected) >= 9


def test_classes_are_numbered_as_in_the_file(scenes):
    def config(*classes):
        config = config_on(DETECTION, scenes, metainfo=dict(classes=classes))
        config.model.bbox_head.num_classes = len(classes)
        return config

    check_data(config('3', '7'), 'train')
    assert_refused(config('0', 'cat'), 'train', r"has no category named 'cat'. It has '0', '1'")
    assert_refused(config('0', '12'), 'train', "'12' is '1' and '2': a comma is missing")
    assert_refused(config('1', '0'), 'train', "in the order '0', '1'. mmdet numbers them as the")
    change_coco(scenes, lambda content: content['categories'].reverse(), BOTH)
    digits = config(*'0123456789')
    assert_refused(digits, 'train', 'mmdet numbers them as the file does')
    init_default_scope('mmdet')  # which is true: label 0 is called '0' and is of the category '9'
    dataset = DATASETS.build({**digits.train_dataloader.dataset, 'pipeline': []})
    assert dataset.cat2label[10] == 0


def leave_out_some(content):
    content['categories'].append(dict(id=99, name='cat'))
    for index, entry in enumerate(content['annotations']):
        if index % 3 == 0:
            entry['category_id'] = 99
        elif index % 4 == 0:
            entry['area'] = 0
        elif index % 5 == 0:
            entry['iscrowd'] = 1
    content['images'][6].update(width=99)


@pytest.mark.parametrize('filter_cfg', [None, dict(min_size=100)])
def test_the_boxes_that_are_left_out_are_counted_as_mmdet_does(scenes, filter_cfg):
    change_coco(scenes, leave_out_some)
    config = config_on(DETECTION, scenes)
    config.train_dataloader.dataset.filter_cfg = filter_cfg
    (detail,) = warnings_of(config, 'left_out_box')
    dataset = DATASETS.build({**config.train_dataloader.dataset, 'pipeline': []})
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    used = sum(not box['ignore_flag'] for sample in samples for box in sample['instances'])
    assert detail.startswith(f'has 18 boxes, of which {used} are used: ')
    assert "6 are of categories that the config leaves out ('cat' 6)" in detail


def evaluate(scenes):
    """mAP of the ground truth itself."""
    init_default_scope('mmdet')
    loader = config_on(DETECTION, scenes).val_dataloader
    dataset = DATASETS.build({**loader.dataset, 'pipeline': []})
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
    change_coco(scenes, each('annotations', id=lambda index, _: index), BOTH)
    assert evaluate(scenes) < 1
    config = config_on(DETECTION, scenes)
    (detail,) = warnings_of(config, 'annotation_zero', 'val')
    assert 'Number annotations from 1' in detail
    assert not warnings_of(config, 'annotation_zero', 'train')


def test_what_pycocotools_accepts_is_no_fault(scenes):
    own = dict(iscrowd=False, image_id=lambda _, entry: f'{entry["image_id"]}')
    change_coco(scenes, each('annotations', **own), BOTH)
    change_coco(scenes, each('images', id=lambda _, e: f'{e["id"]}', height=128.0), BOTH)
    assert evaluate(scenes) == 1
    check_data(config_on(DETECTION, scenes), 'train', 'val')


def test_outlines_are_needed_where_masks_are_loaded_or_evaluated(scenes):
    change_coco(scenes, lambda content: content['annotations'][2].pop('segmentation'), BOTH)
    config = config_on(DETECTION, scenes)
    check_data(config, 'train', 'val')
    loader = next(s for s in config.train_dataloader.dataset.pipeline if 'Annot' in s.type)
    loader.with_mask = True
    config.val_evaluator.metric = ['bbox', 'segm']
    for split in BOTH:
        assert_refused(config, split, r'no `segmentation` in annotations\[2\]')


def test_an_evaluator_for_other_data_than_its_loader(scenes):
    config = config_on(DETECTION, scenes)
    val, copy = (scenes / 'annotations' / f'{name}.json' for name in ('val', 'copy'))
    remedy = f'Set val_evaluator.ann_file={val}'
    for name, message in (('train', rf'\(8 images\).*\(4 images\), .*{remedy}'),
                          ('none', f'does not exist; .*{remedy}')):  # fmt: skip
        config.val_evaluator.ann_file = str(val.with_stem(name))
        assert_refused(config, 'val', message, 'evaluator')
    config.val_evaluator = [dict(type='CocoMetric', ann_file=str(val.with_stem('train')))]
    assert_refused(config, 'val', 'val_evaluator evaluates with', 'evaluator')

    config.val_evaluator[0].ann_file = str(copy)
    shutil.copy(val, copy)
    content = json.loads(copy.read_text())
    assert not warnings_of(config, 'evaluator_objects', 'val')
    content['annotations'][0]['bbox'][0] += 3
    copy.write_text(json.dumps(content))
    with logged() as lines:
        assert warnings_of(config, 'evaluator_objects', 'val')
    assert any(', 1 of whose annotations differ' in line for line in lines)
    content['categories'][0]['name'] = 'other'
    copy.write_text(json.dumps(content))
    assert_refused(config, 'val', 'of whose categories differ', 'evaluator')
    shutil.copy(val, copy)
    config.val_dataloader.dataset.indices = 2
    assert_refused(config, 'val', '`indices`', 'evaluator')
    config.checks = dict(data=False)
    check_data(config, 'val')
