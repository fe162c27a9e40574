"""The moving average of the ImageNet recipe, in a real training on a few digits."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner

RECIPE = Config.fromfile(ROOT / 'configs/_base_/schedules/in1k_300e.py')


class Record(Hook):
    """Keeps the weights after every iteration."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append(
            {k: p.detach().clone().double() for k, p in runner.model.named_parameters()}
        )


@pytest.fixture(scope='module')
def run(few_digits, tmp_path_factory):
    """Four epochs of five iterations, accumulated by two; the record and the work folder."""
    work_dir = tmp_path_factory.mktemp('ema')
    config = load_config(DIGITS_CONFIG)
    for name, size in (('train', 8), ('val', 20)):
        loader = config[f'{name}_dataloader']
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(few_digits)
        loader.dataset.pipeline[1].scale = 32
    config.optim_wrapper.accumulative_counts = RECIPE.optim_wrapper.accumulative_counts
    config.custom_hooks = RECIPE.custom_hooks
    config.param_scheduler = []
    config.train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=2)
    config.work_dir = str(work_dir)
    config.experiment_name = 'test_ema'
    runner = build_runner(config)
    record = Record()
    runner.register_hook(record)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook')
    runner.train()
    return record.weights, hook.ema_model, work_dir


def test_the_average_is_the_closed_form_of_decay_09995(run):
    weights, average, _ = run
    decay = 0.9995
    # An optimiser's step ends every second iteration; the first iteration leaves the weights as
    # they were at the start, and every step counts once.
    steps = weights[0::2]
    for name, found in average.module.named_parameters():
        n = len(steps) - 1
        expected = decay**n * steps[0][name]
        for j in range(1, n + 1):
            expected = expected + (1 - decay) * decay ** (n - j) * steps[j][name]
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    moved = max((steps[-1][k] - steps[0][k]).abs().max() for k in steps[0])
    assert moved > 1e-3


def test_evaluation_logs_both(run):
    *_, work_dir = run
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    found = [r for r in records if 'accuracy/top1' in r]
    assert len(found) == 2
    assert all('accuracy/top1_origin' in r for r in found)


def test_inference_takes_the_average(run):
    """mmengine swaps both on writing: ``state_dict`` of a checkpoint holds the average."""
    _, average, work_dir = run
    config = load_config(DIGITS_CONFIG, dict(work_dir=str(work_dir)))
    for checkpoint in (None, work_dir / 'epoch_4.pth'):
        if checkpoint is None:
            for best in work_dir.glob('best_*'):
                best.unlink()
        model = load_model(config, checkpoint, device='cpu')
        for name, value in average.module.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), value, rtol=0, atol=0)
