"""One list of classes for all splits: folders, lists, metainfo and heads that disagree."""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.evaluation import Accuracy
from PIL import Image
from spoiled_data import (
    DETECTION,
    FOLDERS,
    ROTATED,
    SEGMENTATION,
    SPLITS,
    assert_refused,
    config_on,
    warnings_of,
)

from edgenext_mm.datasets.checks.classes import head_problems
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.errors import UserError


def write_folders(root, **splits):
    for split, names in splits.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                image = Image.fromarray(np.full((16, 16, 3), index, np.uint8))
                image.save(root / split / name / f'{index}.png')


def folder_config(root, kind='edgenext_mm.ImageFolder', num_classes=3, **options):
    config = config_on(FOLDERS, root, type=kind, **options)
    config.model.head.num_classes = num_classes
    if kind == 'CustomDataset':
        for split in SPLITS:
            config[f'{split}_dataloader'].dataset.pop('classes_from', None)
    return config


def accuracy_by_name(config):
    """Accuracy of a classifier that knows the folder of each image, by the numbers of training."""
    init_default_scope('mmpretrain')
    truths = []
    for split in ('train', 'val'):
        dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        truths.append([(Path(i['img_path']).parent.name, int(i['gt_label'])) for i in infos])
    numbers = dict(truths[0])
    predicted = np.array([numbers[name] for name, _ in truths[1]])
    return Accuracy.calculate(predicted, np.array([label for _, label in truths[1]])).item()


@pytest.mark.parametrize(
    ('train', 'val', 'classes'),
    [
        ('abc', 'bc', None),
        ('abc', 'c', ('c', 'a', 'b')),
        (['a', 'b', '.ipynb_checkpoints', '__MACOSX'], ['b', '.git'], None),
    ],
)
def test_folders_are_found_by_name_in_all_splits(tmp_path, train, val, classes):
    write_folders(tmp_path, train=train, val=val)
    shutil.copy(tmp_path / 'train' / train[0] / '0.png', tmp_path / 'train' / train[0] / '._0.png')
    options = dict(metainfo=dict(classes=classes)) if classes else {}
    names = [name for name in train if name.isalpha()]
    config = folder_config(tmp_path, num_classes=len(names), **options)
    check_data(config, *SPLITS)
    assert accuracy_by_name(config) == 100
    train_set = DATASETS.build(config.train_dataloader.dataset)
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
    ],
)
def test_folders_that_training_lacks(tmp_path, kind, train, val, message):
    write_folders(tmp_path, train=train, val=val)
    config = folder_config(tmp_path, kind)
    check_data(config, 'train')
    for split in ('val', 'test'):
        assert_refused(config, split, rf'^(?!.*num_classes).*{message}', 'classes')


def test_mmpretrains_numbering_is_refused_where_splits_differ(tmp_path):
    write_folders(tmp_path, train='abc', val='bc')
    config = folder_config(tmp_path, 'CustomDataset')
    assert accuracy_by_name(config) == 0
    with pytest.raises(UserError, match=r"'b', 'c' .* but train_dataloader has 'a', 'b', 'c'"):
        check_data(config, 'val')
    config.checks = dict(classes=False)
    check_data(config, 'val')
    shutil.rmtree(tmp_path / 'train')  # a machine for tests only
    config.checks = None
    message = r'^(?!.*num_classes).* takes the classes from its own folders'
    with pytest.raises(UserError, match=message):
        check_data(config, 'test')


def test_mmpretrains_folders_under_names_of_the_config(tmp_path):
    write_folders(tmp_path, train=['n1', 'n2'], val=['n1', 'n2'])
    check_data(folder_config(tmp_path, 'CustomDataset', 2), 'train')
    names = dict(metainfo=dict(classes=('ants', 'bees')))
    check_data(folder_config(tmp_path, 'CustomDataset', 2, **names), 'train', 'val')
    three = folder_config(tmp_path, 'CustomDataset', 3, metainfo=dict(classes=[*'abc']))
    assert_refused(three, 'train', r"contains 2 folders \('n1', 'n2'\), .* has 3 classes \('a'")
    (tmp_path / 'val' / 'n1').rename(tmp_path / 'val' / 'n3')
    with pytest.raises(UserError, match=r"'n2', 'n3' .*has 'n1', 'n2'"):
        check_data(folder_config(tmp_path, 'CustomDataset', 2, **names), 'val')
    empty = folder_config(tmp_path / 'train' / 'n1', 'CustomDataset', data_prefix='')
    assert_refused(empty, 'train', 'contains no folders', 'structure')


def test_a_hidden_folder_of_mmpretrains_data_set(tmp_path):
    folders = [*'abc', '.ipynb_checkpoints']
    write_folders(tmp_path, train=folders, val=folders)
    config = folder_config(tmp_path, 'CustomDataset')
    assert_refused(config, 'train', r"hidden folder '.ipynb_checkpoints'.*Delete it", 'classes')


def test_data_sets_within_data_sets(tmp_path):
    write_folders(tmp_path, train='abc', val='bcd')
    config = folder_config(tmp_path, 'CustomDataset')
    parts = [config.train_dataloader.dataset, config.val_dataloader.dataset]
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    assert_refused(config, 'train', r'train_dataloader \(data set 2\) has the classes')


@pytest.mark.parametrize('path', [FOLDERS, DETECTION, SEGMENTATION, ROTATED])
@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ('ship', r"classes='ship'.* A comma is missing: classes=\('ship',\)"),
        (('a', 'b', 'a'), "names the class 'a' more than once"),
        ((0, 1), 'It must be a tuple of names'),
    ],
)
def test_lists_of_classes_that_cannot_be(scenes, path, classes, message):
    write_folders(scenes, train=['ship'], val=['ship'])
    config = config_on(path, scenes, metainfo=dict(classes=classes))
    with pytest.raises(UserError, match=f'^(?!.*num_classes).*{message}'):
        check_data(config, 'train')


def test_a_comma_that_is_missing_between_two_classes(tmp_path):
    write_folders(tmp_path, train=['ants', 'bees'], val=['ants'])
    joined = dict(classes=('ants' 'bees',))  # fmt: skip
    config = folder_config(tmp_path, num_classes=2, metainfo=joined)
    assert_refused(config, 'train', "'antsbees' is 'ants' and 'bees': a comma is missing")


@pytest.mark.parametrize('path', [DETECTION, ROTATED])
def test_the_classes_of_one_split_are_forgotten(scenes, path):
    config = config_on(path, scenes)
    check_data(config, *SPLITS)
    del config.val_dataloader.dataset['metainfo']
    assert_refused(config, 'val', r'val_dataloader has the classes .* train_dataloader has')


def test_switches_are_known(scenes):
    config = config_on(DETECTION, scenes)
    config.checks = dict(heads=False)
    with pytest.raises(UserError, match=r'must be a dict with True or False for any of .*classes'):
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
    model = Config.fromfile(folder / name).model
    problems = head_problems(model, [str(i) for i in range(num_classes)])
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
    (problem,) = head_problems(model, ('a', 'b', 'c'))
    assert (problem.file, problem.is_error) == (place, True)
    assert f'Set {place}.num_classes=3' in problem.detail


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


@pytest.mark.parametrize(
    ('kind', 'used', 'left_out'),
    [
        ('edgenext_mm.ImageFolder', 8, r"^contains 2 images .*: 'a/z.gif', 'a/z.jfif'\."),
        ('CustomDataset', 6, '^contains 4 images '),
    ],
)
def test_images_that_are_left_out_because_of_their_extensions(tmp_path, kind, used, left_out):
    write_folders(tmp_path, train='abc', val='abc')
    for name in ('x.webp', 'y.WEBP', 'z.jfif', 'z.gif', 'notes.txt', '._x.gif'):
        shutil.copy(tmp_path / 'train' / 'a' / '0.png', tmp_path / 'train' / 'a' / name)
    config = folder_config(tmp_path, kind)
    assert inspect_data(config, ['train'])['train'].num_images == used
    (detail,) = warnings_of(config, 'left_out_file')
    assert re.search(left_out, detail)


def test_labels_as_words_in_a_list(tmp_path):
    write_folders(tmp_path, train='abc', val='abc')
    (tmp_path / 'train.txt').write_text('a/0.png 0\nb/0.png b\n')
    options = dict(ann_file='train.txt', metainfo=dict(classes=('a', 'b', 'c')))
    config = folder_config(tmp_path, **options)
    assert_refused(config, 'train', r"train.txt:2 is 'b/0.png b'.* the number of a class")
