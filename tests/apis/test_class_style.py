"""Configs whose types are classes, as mmengine supports them with ``read_base()``."""

import json

import pytest
from mmengine.config import Config

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.testing import run_test
from edgenext_mm.config import load_config, with_type_names
from edgenext_mm.datasets.checks.config_data import check_data, describe_data
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment.content import model_config, preprocessing_of
from edgenext_mm.engine.hooks import WholeCheckpointHook
from edgenext_mm.engine.runner import build_runner

BASE = """
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs, Resize
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier, LinearClsHead
from torch.optim import AdamW

from edgenext_mm.models import EdgeNeXt

model = dict(
    type=ImageClassifier,
    backbone=dict(type=EdgeNeXt, arch='xxsmall', final_norm='auto'),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=168, topk=(1,)),
)
data_preprocessor = dict(type=ClsDataPreprocessor, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=32), dict(type=PackInputs)]
train_dataloader = dict(
    batch_size=20,
    num_workers=0,
    dataset=dict(type=CustomDataset, data_root={root!r}, data_prefix='train', pipeline=pipeline),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    dataset=dict(type=CustomDataset, data_root={root!r}, data_prefix='val', pipeline=pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=Accuracy, topk=(1,))
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1, save_best='auto'))
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=1)]
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
val_cfg = dict()
test_cfg = dict()
"""
CHILD = """
from mmengine.config import read_base

with read_base():
    from .base import *

train_dataloader.update(batch_size=8)
"""


@pytest.fixture
def config(few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'base.py').write_text(BASE.format(root=str(few_digits)))
    (tmp_path / 'birds.py').write_text(CHILD)
    return tmp_path / 'birds.py'


def test_training_testing_inference_and_metadata_of_such_a_config(config, few_digits):
    loaded = load_config(config, {'optim_wrapper.optimizer.lr': 2e-3})
    assert loaded.default_scope == 'mmpretrain'
    assert loaded.model.type.endswith('.ImageClassifier')
    check_data(loaded, 'train', 'val')
    assert describe_data(loaded, 'val').startswith('20 images, 10 classes')
    loaded.work_dir, loaded.experiment_name = 'work_dirs/birds', 'class_style'
    runner = build_runner(loaded)
    assert any(isinstance(hook, WholeCheckpointHook) for hook in runner.hooks)
    runner.train()

    model = load_model(config, device='cpu')
    (image, *_) = (few_digits / 'val' / '3').iterdir()
    assert inference_model(model, image)['pred_class'] in '0123456789'
    assert input_shape(model.cfg) == (32, 32)
    json.dumps([model_config(model), preprocessing_of(model.cfg)])
    again = load_config(config)
    again.work_dir, again.experiment_name = 'work_dirs/birds', 'class_style_test'
    again.load_from = str(next(config.parent.glob('work_dirs/birds/best_*.pth')))
    again.resume = True  # ignored in testing
    assert run_test(again).keys() == {'accuracy/top1'}


def test_classes_of_a_script_are_not_renamed():
    """They cannot be imported by name."""

    class Own:
        pass

    config = Config(dict(model=dict(type=Own), hook=dict(type=WholeCheckpointHook)))
    named = with_type_names(config)
    assert named.model.type is Own
    assert named.hook.type == 'edgenext_mm.engine.hooks.checkpoint_hook.WholeCheckpointHook'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("from nowhere import Thing\nmodel = dict(type=Thing)", r"No module named 'nowhere'"),
        ('x = 1 / 0', 'ZeroDivisionError: division by zero'),
        ("_base_ = 'mmdet::none/none.py'", 'none.py'),
        ('from mmengine.config import read_base\nwith read_base():\n    from .none import *',
         'none'),
    ],
)  # fmt: skip
def test_a_config_with_an_error_is_named(text, message, tmp_path):
    (tmp_path / 'faulty.py').write_text(text)
    with pytest.raises(ValueError, match=rf'faulty\.py cannot be read as a config: .*{message}'):
        load_config(tmp_path / 'faulty.py')
