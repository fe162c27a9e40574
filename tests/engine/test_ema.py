"""The moving average of the ImageNet recipe, in a training on a few digits."""

import json

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from paths import ROOT

from edgenext_mm.apis.model import load_model
from edgenext_mm.engine.runner import build_runner

RECIPE = Config.fromfile(ROOT / 'configs/_base_/schedules/in1k_300e.py')


class Record(Hook):
    """Keeps the weights after every iteration."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        weights = {k: p.detach().clone().double() for k, p in runner.model.named_parameters()}
        self.weights.append(weights)


def test_moving_average(digits_training, tmp_path):
    """Four epochs of five iterations, accumulated by two."""
    config = digits_training(8, 4)
    config.train_cfg.val_interval = 2
    config.optim_wrapper.accumulative_counts = RECIPE.optim_wrapper.accumulative_counts
    config.custom_hooks = RECIPE.custom_hooks
    config.param_scheduler = []
    runner = build_runner(config)
    record = Record()
    runner.register_hook(record)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook')
    runner.train()
    average = hook.ema_model.module

    # The closed form. An optimizer step ends every second iteration; the first iteration leaves
    # the weights as they were at the start, and every step counts once.
    decay, steps = 0.9995, record.weights[0::2]
    n = len(steps) - 1
    for name, found in average.named_parameters():
        expected = decay**n * steps[0][name]
        for j in range(1, n + 1):
            expected = expected + (1 - decay) * decay ** (n - j) * steps[j][name]
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    assert max((steps[-1][k] - steps[0][k]).abs().max() for k in steps[0]) > 1e-3

    # Validation logs the metrics of both models.
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    found = [r for r in map(json.loads, log.read_text().splitlines()) if 'accuracy/top1' in r]
    assert ['accuracy/top1_origin' in r for r in found] == [True] * 2

    # Inference loads the average: mmengine swaps both in a checkpoint's `state_dict`.
    for best in tmp_path.glob('best_*'):
        best.unlink()
    for checkpoint in (None, tmp_path / 'epoch_4.pth'):
        model = load_model(config, checkpoint, device='cpu')
        for name, value in average.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), value, rtol=0, atol=0)
