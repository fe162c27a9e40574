"""Balance of rare and frequent classes."""

import shutil

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from edgenext_mm import ClassBalancedDataset, ImageFolder
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError


@pytest.fixture
def folder(few_digits, tmp_path):
    """16 images of 0, 9 of 1, 4 of 2 and 1 of 3: frequencies 16, 9, 4 and 1 of 30."""
    image = next((few_digits / 'train' / '0').iterdir())
    for split in ('train', 'val'):
        for label, count in enumerate((16, 9, 4, 1)):
            (tmp_path / split / str(label)).mkdir(parents=True)
            for i in range(count):
                shutil.copy(image, tmp_path / split / str(label) / f'{i}.png')
    return tmp_path


def test_rare_classes_are_repeated_by_the_formula(folder):
    """The median frequency is 6.5 / 30: ceil(sqrt(6.5 / 4)) = 2 and ceil(sqrt(6.5)) = 3."""
    init_default_scope('mmpretrain')
    balanced = ClassBalancedDataset(ImageFolder(data_root=str(folder), data_prefix='train'))
    labels = [balanced.get_data_info(i)['gt_label'] for i in range(len(balanced))]
    assert np.bincount(labels).tolist() == [16, 9, 8, 3]


def test_one_line_of_a_config_balances_the_training_only(folder, digits_training, caplog):
    config = digits_training(2, 1)
    config.model.head.num_classes = 4
    config.class_balance = 0.3
    for split in ('train', 'val'):
        config[f'{split}_dataloader'].dataset.data_root = str(folder)
    runner = build_runner(config)
    runner.train()
    # ceil(sqrt(9 / 4)) = 2, ceil(sqrt(9)) = 3; 16 and 9 of 30 are frequent enough
    assert len(runner.train_dataloader.dataset) == 16 + 9 + 2 * 4 + 3 * 1
    assert len(runner.val_dataloader.dataset) == 30


def test_weights_of_a_segmentors_loss_are_those_of_median_frequency(scenes_root, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(scenes_root, root)
    masks = sorted((root / 'train' / 'masks').iterdir())
    for path in masks:
        Image.fromarray(np.full((10, 10), 255, np.uint8)).save(path)
    first = np.zeros((10, 10), np.uint8)
    first[:2], first[9] = 1, 255
    Image.fromarray(first).save(masks[0])  # 70 of 0, 20 of 1
    second = np.zeros((10, 10), np.uint8)
    second[:4] = 2
    Image.fromarray(second).save(masks[1])  # 60 of 0, 40 of 2
    config = load_config(
        'configs/segmentation/deeplabv3_edgenext-xxsmall_digits.py',
        {f'{s}_dataloader.dataset.data_root': f'{root}/' for s in ('train', 'val')},
    )
    config.work_dir, config.class_balance = str(tmp_path / 'work'), True
    config.model.backbone.init_cfg = None
    runner = build_runner(config)
    frequencies = np.array([130 / 190, 20 / 90, 40 / 100])
    expected = (np.median(frequencies) / frequencies).clip(0.1, 10)
    found = runner.model.decode_head.loss_decode.class_weight
    assert found[:3] == pytest.approx(expected.tolist(), abs=1e-3)
    assert found[3:] == [1.0] * 8


@pytest.mark.parametrize('value', ['yes', 3, -0.5])
def test_wrong_values(digits_training, value):
    config = digits_training(2, 1)
    config.class_balance = value
    with pytest.raises(UserError, match='`class_balance` must be True or a number from 0 to 1'):
        build_runner(config).train()
