"""The loss on the validation data, and early stopping."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from edgenext_mm.config import load_config
from edgenext_mm.engine.hooks.early_stopping_hook import EarlyStoppingHook
from edgenext_mm.engine.hooks.validation_loss_hook import with_resized_annotations
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError

DENSE = {
    'detection/ssdlite_edgenext-xxsmall_digits': 'loss_cls',
    'segmentation/deeplabv3_edgenext-xxsmall_digits': 'decode.loss_ce',
    'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits': 'loss_bbox',
}


def logged(runner, name):
    lines = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text().splitlines()
    return [record[name] for record in map(json.loads, lines) if name in record]


def test_the_loss_of_a_classifier_is_its_cross_entropy(digits_training):
    """By hand: the mean over all validation images of mmpretrain's smoothed cross entropy."""
    config = digits_training(4, 1)
    config.val_loss = True
    config.val_dataloader.batch_size = 3  # the last batch is smaller
    runner = build_runner(config)
    runner.train()
    model = runner.model.eval()
    total, count = 0.0, 0
    for batch in runner.val_dataloader:
        data = model.data_preprocessor(batch, False)
        with torch.no_grad():
            logits = model(data['inputs'], mode='tensor').log_softmax(1)
        for row, sample in zip(logits, data['data_samples'], strict=True):
            total += float(-0.9 * row[int(sample.gt_label)] - 0.1 * row.mean())
            count += 1
    assert logged(runner, 'val_loss') == [pytest.approx(total / count, rel=1e-4)]


@pytest.mark.parametrize('name', DENSE)
def test_annotations_are_resized_with_their_images(name, scenes_root, tmp_path):
    """On images of another size than the input, the loss is that of the training pipeline."""
    options = {f'{s}_dataloader.dataset.data_root': f'{scenes_root}/' for s in ('train', 'val')}
    config = load_config(f'configs/{name}.py', options)
    config.work_dir, config.experiment_name = str(tmp_path), name.replace('/', '-')
    config.model.backbone.init_cfg = None
    for steps in (config.train_dataloader.dataset.pipeline, config.val_dataloader.dataset.pipeline):
        for step in steps:
            if step['type'].endswith('Resize'):
                step['scale'] = (64, 64)
    runner = build_runner(config)
    loader = runner.build_dataloader(with_resized_annotations(runner))
    batch = next(iter(loader))
    sample = batch['data_samples'][0]
    if 'gt_sem_seg' in sample:
        assert sample.gt_sem_seg.shape == batch['inputs'][0].shape[-2:] == (64, 64)
        return
    plain = next(iter(runner.build_dataloader(config.val_dataloader)))['data_samples'][0]
    assert len(sample.gt_instances) == len(plain.gt_instances) > 0
    scale = 64 / plain.ori_shape[0]
    boxes = [np.asarray(s.gt_instances.bboxes.tensor)[:, :4] for s in (sample, plain)]
    np.testing.assert_allclose(boxes[0], boxes[1] * scale, atol=0.02)
    model = runner.model.eval()
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    _, parsed = model.parse_losses(losses)
    assert DENSE[name] in parsed


def test_a_run_with_it_is_the_same_run(digits_training):
    def weights(val_loss):
        config = digits_training(4, 2)
        config.val_loss, config.train_cfg.val_interval = val_loss, 1
        config.experiment_name += str(val_loss)
        runner = build_runner(config)
        runner.train()
        return runner.model.state_dict()

    first, second = weights(True), weights(False)
    assert all(torch.equal(first[name], second[name]) for name in first)


class Metrics(Hook):
    """Replaces the metric by given values."""

    priority = 'HIGHEST'

    def __init__(self, values):
        self.values = values

    def after_val_epoch(self, runner, metrics=None):
        metrics['accuracy/top1'] = self.values[runner.epoch - 1]


def train(digits_training, values, **settings):
    config = digits_training(8, len(values))
    config.train_cfg.val_interval = 1
    config.merge_from_dict(settings)
    runner = build_runner(config)
    runner.register_hook(Metrics(values))
    runner.train()
    return runner


def test_training_stops_when_the_metric_no_longer_improves(digits_training):
    runner = train(digits_training, [1, 5, 4, 5, 3, 9], early_stopping=dict(patience=3))
    assert runner.epoch == 5  # three validations after the best one, an equal value is no better
    assert json.loads(Path(runner.log_dir, 'run.json').read_text())['stopped_early'] == 5


def test_a_resumed_training_remembers_the_best_value(digits_training):
    train(digits_training, [5, 4], early_stopping=dict(patience=3))
    config = digits_training(8, 6)
    last = str(Path(config.work_dir, 'epoch_2.pth'))
    resumed = train(
        digits_training, [5, 4, 3, 2, 1, 0], early_stopping=dict(patience=3), resume=True,
        load_from=last,
    )  # fmt: skip
    assert resumed.epoch == 4


def test_the_validation_loss_can_be_watched(digits_training):
    config = digits_training(8, 3)
    config.merge_from_dict(dict(val_loss=True, early_stopping=dict(monitor='val_loss', patience=1)))
    config.train_cfg.val_interval = 1
    config.optim_wrapper.optimizer.lr = 0.0
    runner = build_runner(config)
    runner.train()
    assert runner.epoch < 3


def test_early_stopping_watches_the_metric_of_the_best_checkpoint():
    def watched(save_best, **settings):
        hooks = dict(checkpoint=dict(save_best=save_best))
        settings = dict(patience=1, **settings)
        return EarlyStoppingHook.of(dict(default_hooks=hooks, early_stopping=settings)).monitor

    assert watched('mIoU') == 'mIoU'
    assert watched('mIoU', monitor='val_loss') == 'val_loss'
    assert watched('auto') == ''  # the first one


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(patiense=3), '`early_stopping` is .*It takes monitor, rule'),
        (dict(patience=0), 'positive number of validations'),
        (dict(rule='up'), "rule='up'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        EarlyStoppingHook.of(dict(early_stopping=settings))


def test_an_unknown_metric_names_those_that_exist(digits_training):
    with pytest.raises(UserError, match=r'no metric .*Did you mean .accuracy/top1'):
        train(digits_training, [1, 2], early_stopping=dict(monitor='accuracy'))
