"""From DOTA's images to patches, and from predictions on patches to a submission."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, METRICS, init_default_scope
from paths import ROOT

from edgenext_mm.config import load_config

CONFIG = ROOT / 'configs/rotated_detection/rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota.py'
SUBMISSION = CONFIG.with_name(CONFIG.stem + '-submission.py')

# Corners and class; the second ship lies in four patches.
OBJECTS = {
    'P0001': [([100, 120, 160, 150, 145, 180, 85, 150], 'plane')],
    'P0002': [
        ([40, 40, 80, 40, 80, 60, 40, 60], 'ship'),
        ([600, 600, 660, 630, 645, 660, 585, 630], 'ship'),
        ([1200, 900, 1230, 900, 1230, 990, 1200, 990], 'harbor'),
    ],
}
SIZES = {'P0001': (400, 300), 'P0002': (1300, 1100)}


@pytest.fixture(scope='module')
def patches(tmp_path_factory):
    """`data/split_ss_dota`, made with the tool and the options that the README gives."""
    folder = tmp_path_factory.mktemp('dota')
    for kind in ('images', 'labelTxt'):
        (folder / kind).mkdir()
    for name, (width, height) in SIZES.items():
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        cv2.imwrite(str(folder / 'images' / f'{name}.png'), image)
        lines = ['imagesource:none', 'gsd:null']
        lines += [' '.join(map(str, corners)) + f' {c} 0' for corners, c in OBJECTS[name]]
        (folder / 'labelTxt' / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    (package,) = find_spec('mmrotate').submodule_search_locations
    tool = Path(package, '.mim/tools/data/dota/split/img_split.py')
    labels = ['--ann-dirs', folder / 'labelTxt']
    for split, annotated in (('train', labels), ('val', labels), ('test', [])):
        command = [sys.executable, tool, '--sizes', 1024, '--gaps', 512, '--nproc', 1]
        command += ['--img-dirs', folder / 'images', *annotated]
        command += ['--save-dir', folder / 'split' / split]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder / 'split'


def load(path, patches):
    config = load_config(path)
    init_default_scope(config.default_scope)
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = f'{patches}/'
    return config


def test_patches_overlap_by_half(patches):
    names = sorted(path.stem for path in (patches / 'train' / 'images').iterdir())
    assert names == [
        'P0001__1024__0___0',
        'P0002__1024__0___0',
        'P0002__1024__0___76',
        'P0002__1024__276___0',
        'P0002__1024__276___76',
    ]
    assert cv2.imread(str(patches / 'train' / 'images' / f'{names[0]}.png')).shape[:2]


def test_training_is_on_the_train_split_and_validation_on_val(patches):
    config = load(CONFIG, patches)
    for split in ('train', 'val'):
        dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
        assert len(dataset) == 5
        samples = [item['data_samples'] for item in dataset]
        assert all(f'/{split}/images/' in sample.img_path for sample in samples)
        assert {sample.img_shape for sample in samples} == {(1024, 1024)}
        found = {
            (sample.img_id, *np.rint(box[:2]).astype(int))
            for sample in samples
            for box in sample.gt_instances.bboxes.tensor.numpy()
        }
        if split == 'val':  # not flipped
            assert {
                ('P0002__1024__0___0', 60, 50),
                ('P0002__1024__276___76', 1215 - 276, 945 - 76),
            } <= found


def as_predictions(dataset):
    """The ground truth of a data set as what a model would have predicted."""
    samples = []
    for index in range(len(dataset)):
        truth = dataset[index]['data_samples']
        count = len(truth.gt_instances.bboxes)
        predicted = dict(
            bboxes=truth.gt_instances.bboxes.tensor,
            labels=truth.gt_instances.labels,
            scores=torch.linspace(0.9, 0.8, count) if count else torch.zeros(0),
        )
        samples.append(
            dict(
                img_id=truth.img_id,
                gt_instances={},
                ignored_instances={},
                pred_instances=predicted,
            )
        )
    return samples


def test_predictions_on_patches_become_a_submission(patches, tmp_path):
    config = load(SUBMISSION, patches)
    prefix = tmp_path / 'Task1'
    config.test_evaluator.outfile_prefix = str(prefix)
    dataset = DATASETS.build(load(CONFIG, patches).val_dataloader.dataset)
    metric = METRICS.build(config.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, as_predictions(dataset))
    metric.evaluate(len(dataset))
    with zipfile.ZipFile(prefix / 'Task1.zip') as archive:
        lines = {
            name.removeprefix('Task1_').removesuffix('.txt'): archive.read(name).decode()
            for name in archive.namelist()
        }
    assert set(lines) == set(dataset.metainfo['classes'])
    found = [(name, line.split()) for name, text in lines.items() for line in text.splitlines()]
    wanted = [(c, name, p) for name, objects in OBJECTS.items() for p, c in objects]
    # An object seen in several patches is there once.
    assert len(found) == len(wanted)
    for c, (image, score, *numbers) in found:
        assert 0.8 <= float(score) <= 0.9
        centre = np.reshape(numbers, (4, 2)).astype(float).mean(0)
        same = [
            np.abs(np.reshape(p, (4, 2)).mean(0) - centre).max() < 1
            for wanted_c, name, p in wanted
            if (wanted_c, name) == (c, image)
        ]
        assert sum(same) == 1


def test_the_test_split_needs_no_labels(patches):
    config = load(SUBMISSION, patches)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    assert len(dataset) == 5
    item = dataset[0]
    assert item['inputs'].shape == (3, 1024, 1024)
    assert '/test/images/' in item['data_samples'].img_path
