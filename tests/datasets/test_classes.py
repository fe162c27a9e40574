"""One list of classes for all splits: folders, metainfo, heads and evaluators that disagree."""

import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from logs import logged
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.evaluation import Accuracy
from paths import ROOT
from PIL import Image

from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.classes import head_problems
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.errors import UserError

FOLDERS = 'classification/edgenext-xxsmall_1xb64-30e_folder.py'
DETECTION = 'detection/ssdlite_edgenext-xxsmall_digits.py'
SEGMENTATION = 'segmentation/deeplabv3_edgenext-xxsmall_digits.py'
ROTATED = 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py'


def write_folders(root, **splits):
    for split, names in splits.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                image = Image.fromarray(np.full((16, 16, 3), index, np.uint8))
                image.save(root / split / name / f'{index}.png')


def folder_config(root, kind='edgenext_mm.ImageFolder', num_classes=3, **options):
    config = load_config(ROOT / 'configs' / FOLDERS, {'model.head.num_classes': num_classes})
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        dataset.update(data_root=str(root), type=kind, **options)
        if kind == 'CustomDataset':
            dataset.pop('classes_from', None)
    return config


def found_by_check_dataset(config, split):
    reports = inspect_data(config, ['train', 'val'])
    return [problem.detail for problem in reports[split].problems if problem.is_error]


def accuracy_by_name(config):
    """Of a classifier that knows the folder of each image, under the numbers of training."""
    init_default_scope('mmpretrain')
    train, val = (DATASETS.build(config[f'{s}_dataloader'].dataset) for s in ('train', 'val'))
    truths = [
        {
            info['img_path']: int(info['gt_label'])
            for info in map(data.get_data_info, range(len(data)))
        }
        for data in (train, val)
    ]
    numbers = {path.split(os.sep)[-2]: label for path, label in truths[0].items()}
    predicted = [numbers[path.split(os.sep)[-2]] for path in truths[1]]
    return Accuracy.calculate(np.array(predicted), np.array([*truths[1].values()])).item()


@pytest.mark.parametrize(
    ('train', 'val', 'classes'),
    [
        ('abc', 'bc', None),
        ('abc', 'c', ('c', 'a', 'b')),
        (['ants', 'bees'], ['ants', 'bees'], ('bees', 'ants')),
        (['a', 'b', '.ipynb_checkpoints', '__MACOSX'], ['b', '.git'], None),
    ],
)
def test_folders_are_found_by_name_in_all_splits(tmp_path, train, val, classes):
    write_folders(tmp_path, train=train, val=val)
    shutil.copy(tmp_path / 'train' / train[0] / '0.png', tmp_path / 'train' / train[0] / '._0.png')
    options = dict(metainfo=dict(classes=classes)) if classes else {}
    config = folder_config(tmp_path, num_classes=3 if train == 'abc' else 2, **options)
    check_data(config, 'train', 'val', 'test')
    assert accuracy_by_name(config) == 100
    train_set = DATASETS.build(config.train_dataloader.dataset)
    names = [name for name in train if name.isalpha()]
    assert train_set.metainfo['classes'] == (classes or tuple(names))
    assert len(train_set) == 2 * len(names)
    if classes:  # mmpretrain's own gives other labels, or stops with an AssertionError
        with pytest.raises(UserError, match='ImageFolder'):
            check_data(folder_config(tmp_path, 'CustomDataset', **options), 'train', 'val')


@pytest.mark.parametrize('kind', ['edgenext_mm.ImageFolder', 'CustomDataset'])
@pytest.mark.parametrize(
    ('train', 'val', 'message'),
    [
        ('abc', 'bcd', "'d'"),
        (['cat', 'Dog', 'x'], ['cat', 'dog', 'x'], 'differ in case or separators only'),
        (['ants', 'bees', 'x'], ['bees', 'wasps', 'x'], "'wasps'"),
    ],
)
def test_folders_that_training_lacks(tmp_path, kind, train, val, message):
    write_folders(tmp_path, train=train, val=val)
    config = folder_config(tmp_path, kind)
    check_data(config, 'train')
    for split in ('val', 'test'):
        with pytest.raises(UserError, match=message) as error:
            check_data(config, split)
        assert 'num_classes' not in str(error.value)
    assert any(message in detail for detail in found_by_check_dataset(config, 'val'))


def test_mmpretrains_numbering_is_refused_where_splits_differ(tmp_path):
    write_folders(tmp_path, train='abc', val='bc')
    config = folder_config(tmp_path, 'CustomDataset')
    init_default_scope('mmpretrain')
    assert accuracy_by_name(config) == 0
    with pytest.raises(UserError, match=r"'b', 'c' .* but train_dataloader has 'a', 'b', 'c'"):
        check_data(config, 'val')
    config.checks = dict(classes=False)
    check_data(config, 'val')
    shutil.rmtree(tmp_path / 'train')  # a machine for tests only
    config.checks = None
    with pytest.raises(UserError, match='takes the classes from its own folders') as error:
        check_data(config, 'test')
    assert 'num_classes' not in str(error.value)


def test_mmpretrains_folders_under_names_of_the_config(tmp_path):
    write_folders(tmp_path, train=['n1', 'n2'], val=['n1', 'n2'])
    names = dict(metainfo=dict(classes=('ants', 'bees')))
    check_data(folder_config(tmp_path, 'CustomDataset', 2, **names), 'train', 'val')
    (tmp_path / 'val' / 'n1').rename(tmp_path / 'val' / 'n3')
    with pytest.raises(UserError, match=r"'n2', 'n3' .*has 'n1', 'n2'"):
        check_data(folder_config(tmp_path, 'CustomDataset', 2, **names), 'val')


def test_a_hidden_folder_of_mmpretrains_data_set(tmp_path):
    write_folders(
        tmp_path, train=[*'abc', '.ipynb_checkpoints'], val=[*'abc', '.ipynb_checkpoints']
    )
    with pytest.raises(UserError, match=r"hidden folder '.ipynb_checkpoints'.*Delete it"):
        check_data(folder_config(tmp_path, 'CustomDataset'), 'train')


def test_data_sets_within_data_sets(tmp_path):
    write_folders(tmp_path, train='abc', val='bcd')
    config = folder_config(tmp_path, 'CustomDataset')
    parts = [config.train_dataloader.dataset, config.val_dataloader.dataset]
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    with pytest.raises(UserError, match=r'train_dataloader \(data set 2\) has the classes'):
        check_data(config, 'train')


@pytest.mark.parametrize('path', [FOLDERS, DETECTION, SEGMENTATION, ROTATED])
@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ('ship', r"classes='ship'.* A comma is missing: classes=\('ship',\)"),
        (('a', 'b', 'a'), "names the class 'a' more than once"),
        ((0, 1), 'It must be a tuple of names'),
    ],
)
def test_lists_of_classes_that_cannot_be(tmp_path, scenes, path, classes, message):
    write_folders(scenes, train=['ship'], val=['ship'])
    config = load_config(ROOT / 'configs' / path)
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.update(
            data_root=f'{scenes}/', metainfo=dict(classes=classes)
        )
    with pytest.raises(UserError, match=message) as error:
        check_data(config, 'train')
    assert 'num_classes' not in str(error.value)


def test_a_comma_that_is_missing_between_two_classes(tmp_path, scenes):
    write_folders(tmp_path, train=['ants', 'bees'], val=['ants'])
    joined = dict(classes=('ants' 'bees',))  # fmt: skip
    config = folder_config(tmp_path, num_classes=2, metainfo=joined)
    with pytest.raises(UserError, match="'antsbees' is 'ants' and 'bees': a comma is missing"):
        check_data(config, 'train')
    config = dense_config(scenes, DETECTION)
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.metainfo.classes = ('0', '1' '2')  # fmt: skip
    config.model.bbox_head.num_classes = 2
    with pytest.raises(UserError, match="'12' is '1' and '2': a comma is missing"):
        check_data(config, 'train')


def dense_config(scenes, path):
    options = {f'{s}_dataloader.dataset.data_root': f'{scenes}/' for s in ('train', 'val', 'test')}
    config = load_config(ROOT / 'configs' / path, options)
    if path == DETECTION:
        for split in ('val', 'test'):
            config[f'{split}_evaluator'].ann_file = str(scenes / 'annotations' / 'val.json')
    return config


@pytest.mark.parametrize('path', [DETECTION, ROTATED])
def test_the_classes_of_one_split_are_forgotten(scenes, path):
    config = dense_config(scenes, path)
    check_data(config, 'train', 'val', 'test')
    del config.val_dataloader.dataset['metainfo']
    with pytest.raises(UserError, match=r'val_dataloader has the classes .* train_dataloader has'):
        check_data(config, 'val')


def test_an_evaluator_for_other_data_than_its_loader(scenes):
    config = dense_config(scenes, DETECTION)
    annotations = scenes / 'annotations'
    config.val_evaluator.ann_file = str(annotations / 'train.json')
    remedy = f'Set val_evaluator.ann_file={annotations / "val.json"}'
    with pytest.raises(UserError, match=rf'\(8 images\).*\(4 images\)\. {remedy}'):
        check_data(config, 'val')
    assert any(remedy in detail for detail in found_by_check_dataset(config, 'val'))
    config.val_evaluator.ann_file = str(annotations / 'none.json')
    with pytest.raises(UserError, match=f'does not exist; .*{remedy}'):
        check_data(config, 'val')
    config.val_evaluator = [dict(type='CocoMetric', ann_file=str(annotations / 'train.json'))]
    with pytest.raises(UserError, match=r'val_evaluator evaluates with'):
        check_data(config, 'val')
    shutil.copy(annotations / 'val.json', annotations / 'copy.json')
    config.val_evaluator[0].ann_file = str(annotations / 'copy.json')
    with logged() as lines:
        check_data(config, 'val')
    assert not any('objects differ' in line for line in lines)
    content = json.loads((annotations / 'copy.json').read_text())
    content['annotations'][0]['bbox'][0] += 3
    (annotations / 'copy.json').write_text(json.dumps(content))
    with logged() as lines:
        check_data(config, 'val')
    assert any('and 1 of its objects differ' in line for line in lines)
    content['categories'][0]['name'] = 'other'
    (annotations / 'copy.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='whose categories differ'):
        check_data(config, 'val')
    shutil.copy(annotations / 'val.json', annotations / 'copy.json')
    config.val_dataloader.dataset.indices = 2
    with pytest.raises(UserError, match='`indices`'):
        check_data(config, 'val')
    config.checks = dict(data=False)
    check_data(config, 'val')


def test_switches_are_known(scenes):
    config = dense_config(scenes, DETECTION)
    config.checks = dict(heads=False)
    with pytest.raises(UserError, match=r'It takes a dict with True or False for any of .*classes'):
        check_data(config, 'train')


COCO, COCO_PANOPTIC, CITYSCAPES, VOC = 80, 133, 19, 21


@pytest.mark.parametrize(
    ('config', 'num_classes'),
    [
        ('mmdet::htc/htc_r50_fpn_1x_coco.py', COCO),
        ('mmdet::scnet/scnet_r50_fpn_1x_coco.py', COCO),
        ('mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', COCO_PANOPTIC),
        ('mmdet::mm_grounding_dino/coco/grounding_dino_swin-t_finetune_16xb4_1x_coco.py', COCO),
        ('mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', COCO),
        ('mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py', CITYSCAPES),
        ('mmseg::san/san-vit-b16_voc12aug-640x640.py', VOC),
        ('mmpretrain::efficientnet_v2/efficientnetv2-s_8xb32_in21k.py', 1000),
    ],
)
def test_models_that_upstream_trains(config, num_classes):
    library, name = config.split('::')
    folder = Path(importlib.import_module(library).__file__).parent / '.mim' / 'configs'
    problems = head_problems(
        Config.fromfile(folder / name).model, [str(i) for i in range(num_classes)]
    )
    assert [problem for problem in problems if problem.is_error] == []


@pytest.mark.parametrize(
    ('change', 'place'),
    [
        ('bbox_head=dict(num_classes=80)', 'model.bbox_head'),
        (
            'roi_head=dict(bbox_head=[dict(num_classes=3), dict(num_classes=80)])',
            'model.roi_head.bbox_head.1',
        ),
        ('roi_head=dict(mask_head=dict(num_classes=80))', 'model.roi_head.mask_head'),
        ('decode_head=dict(num_classes=2)', 'model.decode_head'),
        ('decode_head=[dict(num_classes=3), dict(num_classes=19)]', 'model.decode_head.1'),
        ('head=dict(num_classes=2)', 'model.head'),
    ],
)
def test_heads_for_another_number_of_classes(change, place):
    model = Config.fromstring(f'model = dict({change})', '.py').model
    problems = list(head_problems(model, ('a', 'b', 'c')))
    assert [(problem.file, problem.is_error) for problem in problems] == [(place, True)]
    assert f'Set {place}.num_classes=3' in problems[0].detail


@pytest.mark.parametrize(
    'change',
    ['decode_head=dict(num_classes=1, out_channels=1)', 'head=dict(num_classes=1000)',
     'bbox_head=dict(num_classes=2, loss_cls=dict(num_classes=1203))',
     'decode_head=dict(num_classes=2), auxiliary_head=[dict(num_classes=19)]'],
)  # fmt: skip
def test_what_is_not_sure_is_a_warning(change):
    model = Config.fromstring(f'model = dict({change})', '.py').model
    problems = list(head_problems(model, ('background', 'ship')))
    assert [problem.is_error for problem in problems] == [False]


def test_images_that_are_left_out_because_of_their_endings(tmp_path):
    write_folders(tmp_path, train='abc', val='abc')
    for name in ('x.webp', 'y.WEBP', 'z.jfif', 'z.gif', 'notes.txt', '._x.gif'):
        shutil.copy(tmp_path / 'train' / 'a' / '0.png', tmp_path / 'train' / 'a' / name)

    def left_out(kind):
        report = inspect_data(folder_config(tmp_path, kind), ['train'])['train']
        return report, [f.detail for f in report.problems if f.kind == 'left_out_file']

    report, (told,) = left_out('edgenext_mm.ImageFolder')
    assert report.num_images == 8
    assert told.startswith('contains 2 images that are not used because of their extensions')
    assert "'a/z.gif', 'a/z.jfif'" in told
    report, (told,) = left_out('CustomDataset')
    assert report.num_images == 6
    assert told.startswith('contains 4 images')


def test_labels_as_words_in_a_list(tmp_path):
    write_folders(tmp_path, train='abc', val='abc')
    (tmp_path / 'train.txt').write_text('a/0.png 0\nb/0.png b\n')
    options = dict(ann_file='train.txt', metainfo=dict(classes=('a', 'b', 'c')))
    config = folder_config(tmp_path, **options)
    with pytest.raises(UserError, match=r"train.txt:2 is 'b/0.png b'.* the number of a class"):
        check_data(config, 'train')


def test_the_order_of_coco_categories_is_that_of_the_file(scenes):
    path = scenes / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    content['categories'].reverse()
    path.write_text(json.dumps(content))
    config = dense_config(scenes, DETECTION)
    with pytest.raises(UserError, match='mmdet numbers them as the file does'):
        check_data(config, 'train')
    init_default_scope('mmdet')  # which is true: label 0 is called '0' and is of the category '9'
    dataset = DATASETS.build({**config.train_dataloader.dataset, 'pipeline': []})
    assert dataset.cat2label[content['categories'][0]['id']] == 0
    assert dataset.metainfo['classes'][0] == '0' != content['categories'][0]['name']
