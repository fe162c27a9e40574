"""Both loops do the same work, and the time of the parts is told."""

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from paths import ROOT

from benchmarks.loop_overhead import (
    ImagesInMemory,
    InterleavedLoop,
    measure_overhead,
)
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner

FOLDER_CONFIG = ROOT / 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py'


@pytest.fixture
def config(tmp_path, request):
    config = load_config(FOLDER_CONFIG)
    config.work_dir, config.experiment_name = str(tmp_path), request.node.name
    config.model.head.num_classes = 10
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1, update_buffers=True)]
    return config


class Record(Hook):
    """Keeps the weights after every epoch, and their moving average."""

    priority = 'LOWEST'

    def __init__(self):
        self.weights, self.averages = [], []

    def before_train(self, runner):
        (self.ema,) = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]

    def after_train_epoch(self, runner):
        self.weights.append(copied(runner.model))
        self.averages.append(copied(self.ema.ema_model.module))


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_both_loops_end_with_the_same_weights(config):
    """One batch is an epoch, so that both see the same, whatever the order."""
    # Gradient descent with two settings of decay, among 200 groups in mmengine's optimiser.
    config.optim_wrapper.optimizer = dict(type='SGD', lr=0.05, weight_decay=0.05)
    config.param_scheduler = []
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    runner = build_runner(config)
    loop = InterleavedLoop(runner, ImagesInMemory(8, (32, 32), 10), 8, rounds=3, warmup=0)
    runner._train_loop = loop
    record = Record()
    runner.register_hook(record)
    runner.train()
    groups = [len(o.param_groups) for o in (runner.optim_wrapper.optimizer, loop.plain.optimizer)]
    assert groups[0] > 100
    assert groups[1] == 2
    plain, average = copied(loop.plain.model), copied(loop.plain.average.module)
    torch.testing.assert_close(plain, record.weights[2], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(average, record.averages[2], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(plain['head.fc.weight'], average['head.fc.weight'], atol=1e-4)


def test_parts_are_told_by_name(config):
    overhead = measure_overhead(config, (32, 32), batch_size=4, steps=2, rounds=3)
    assert len(overhead.runner.seconds) == len(overhead.plain.seconds) == 3
    hooks = {'IterTimerHook', 'LoggerHook', 'ParamSchedulerHook', 'EMAHook', 'RuntimeInfoHook'}
    assert hooks | {'data loader', 'data preprocessor'} <= set(overhead.parts)
    assert all(seconds > 0 for seconds in overhead.parts.values())
    assert sum(overhead.parts.values()) < overhead.runner.median
