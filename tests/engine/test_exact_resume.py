"""Resumed trainings end bit for bit like uninterrupted ones."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from paths import DIGITS_CONFIG

from edgenext_mm.checkpoints.latest import merge_resume
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner

MULTI_SCALE = DIGITS_CONFIG.with_name('edgenext-xxsmall_digits-multi-scale.py')


class BreakOff(Hook):
    """Ends a training with an error at a given point."""

    priority = 'LOWEST'

    def __init__(self, method, step):
        def break_off(runner, *args, **kwargs):
            if runner.iter == step:
                raise ConnectionError(method)

        setattr(self, method, break_off)


class Progress(Hook):
    """A metric that is better at each validation."""

    priority = 'HIGH'

    def after_val_epoch(self, runner, metrics=None):
        metrics['progress'] = runner.iter


def train(work_dir, data, options, hook=None, path=DIGITS_CONFIG):
    """Trains on 40 digits in batches of 8; resumes if there is a checkpoint."""
    config = load_config(path)
    config.work_dir, config.experiment_name = str(work_dir), f'{work_dir.name}-{hook is None}'
    for name, size in (('train', 8), ('val', 20)):
        loader = config[f'{name}_dataloader']
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
        loader.dataset.pipeline[1].scale = 32
    arch = dict(depths=(1, 1, 1, 1), dims=(24, 48, 88, 168))
    config.model.backbone.update(arch=arch, drop_path_rate=0.2)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1, evaluate_on_origin=True)]
    config.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
    config.default_hooks.checkpoint.update(save_best='progress', rule='greater')
    config.param_scheduler = [dict(type='CosineAnnealingLR', end=2, convert_to_iter_based=True)]
    config.merge_from_dict(copy.deepcopy(options))
    merge_resume(config, 'auto')
    runner = build_runner(config)
    runner.register_hook(Progress())
    if hook is not None:
        runner.register_hook(hook)
        with pytest.raises(ConnectionError):
            runner.train()
    else:
        runner.train()
    return runner


def assert_same(work, other, name):
    a, b = (torch.load(folder / name, weights_only=False) for folder in (work, other))
    assert set(a) == set(b)
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(dict(a[key]), dict(b[key]), rtol=0, atol=0)
    torch.testing.assert_close(a['optimizer'], b['optimizer'], rtol=0, atol=0)
    assert a['param_schedulers'] == b['param_schedulers']
    infos = [c['message_hub']['runtime_info'] for c in (a, b)]
    for info in ('best_score', 'keep_ckpt_ids', 'last_validation'):
        assert infos[0][info] == infos[1][info]
    assert len(list(work.glob('best_*'))) == len(list(other.glob('best_*'))) == 1
    losses = [c['message_hub']['log_scalars']['train/loss'].data[0] for c in (a, b)]
    assert losses[0].tolist() == losses[1].tolist()


def by_step(interval):
    checkpoint = 'default_hooks.checkpoint.'
    return {f'{checkpoint}by_epoch': False, f'{checkpoint}interval': interval}


WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}
BY_ITERATION = {
    'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=4),
    'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=10, by_epoch=False)],
    **by_step(3),
}
#: Options, the last checkpoint, and the points at which the training ends; 5 steps per epoch.
CASES = {
    'epochs': ({}, 'epoch_2.pth', [('before_val', 5), ('after_train_iter', 7), ('before_val', 10)]),
    'steps': (
        {**by_step(1), **WORKERS, 'optim_wrapper.accumulative_counts': 2},
        'iter_10.pth',
        [('after_train_iter', 2), ('before_val', 10)],
    ),
    'iterations': (BY_ITERATION, 'iter_12.pth', [('after_train_iter', 9)]),
    'endless iterations, with a drawn seed': (
        {
            **BY_ITERATION,
            **WORKERS,
            'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
            'randomness.seed': None,
        },
        'iter_12.pth',
        [('after_val', 4), ('after_train_iter', 10)],
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_the_result_is_the_same(case, few_digits, tmp_path, monkeypatch):
    options, last, ends = CASES[case]
    # Each run draws another seed.
    monkeypatch.setattr('mmengine.runner.utils.sync_random_seed', iter([5, 5, 6, 7]).__next__)
    train(tmp_path / 'whole', few_digits, options)
    for end in ends:
        train(tmp_path / 'broken', few_digits, options, BreakOff(*end))
    train(tmp_path / 'broken', few_digits, options)
    assert_same(tmp_path / 'whole', tmp_path / 'broken', last)


def test_multi_scale_batches_are_resumed_within_an_epoch(few_digits, tmp_path):
    options = by_step(3)
    whole = train(tmp_path / 'whole', few_digits, options, path=MULTI_SCALE)
    hook = BreakOff('after_train_iter', 6)
    train(tmp_path / 'broken', few_digits, options, hook, MULTI_SCALE)
    train(tmp_path / 'broken', few_digits, options, path=MULTI_SCALE)
    assert_same(tmp_path / 'whole', tmp_path / 'broken', f'iter_{whole.iter}.pth')
