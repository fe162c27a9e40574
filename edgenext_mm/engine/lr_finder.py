"""Finds a learning rate by a range test (Smith 2017, https://arxiv.org/abs/1506.01186)."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from .runner import build_runner

#: The loss counts as exploded above this multiple of its smoothed minimum.
_EXPLODED = 4.0
_SMOOTHING = 0.9
#: Share by which the loss must fall for a suggestion.
_LEAST_FALL = 0.05


class LearningRates(NamedTuple):
    """The result of a range test.

    Args:
        rates: Learning rates that were tried, increasing.
        losses: Smoothed training losses.
        suggestion: A tenth of the rate with the lowest loss, rounded to two digits. None if the
            loss fell by less than 5%: then the lowest one is chance, as in trainings from random
            weights that begin slowly.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float | None


class _RangeTestHook(Hook):
    """Raises the learning rate in every step, and stops when the loss explodes."""

    priority = 'VERY_LOW'

    def __init__(self, lowest: float, highest: float, steps: int, configured: float) -> None:
        self.planned = np.geomspace(lowest, highest, steps)
        self.configured = configured
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._initial: list[float] = []
        self._average = 0.0

    def before_train(self, runner: Runner) -> None:
        self._initial = [group['lr'] for group in runner.optim_wrapper.param_groups]
        self._bar = tqdm(total=len(self.planned), desc='learning rates', disable=None)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        # Multipliers of parameter groups, and of the batch size, are kept.
        factor = self.planned[runner.iter] / self.configured
        for group, initial in zip(runner.optim_wrapper.param_groups, self._initial, strict=True):
            group['lr'] = initial * factor

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        # The mean over all processes, so that they stop in the same step.
        reduced = torch.tensor([float(outputs['loss'].detach())])
        all_reduce(reduced, 'mean')
        loss = float(reduced)
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss
        smoothed = self._average / (1 - _SMOOTHING ** (runner.iter + 1))
        if not math.isfinite(smoothed) or smoothed > _EXPLODED * min(self.losses, default=math.inf):
            runner.train_loop.stop_training = True
            return
        self.rates.append(float(self.planned[runner.iter]))
        self.losses.append(smoothed)
        self._bar.update()

    def after_train(self, runner: Runner) -> None:
        self._bar.close()


def find_lr(
    config: Config, lowest: float = 1e-7, highest: float = 1.0, steps: int = 100
) -> LearningRates:
    """Trains for some steps with a learning rate that grows exponentially.

    The weights are thrown away. Rates are those of ``optim_wrapper.optimizer.lr``: the multipliers
    of layers and of the batch size (``auto_scale_lr``) stay in effect.

    Args:
        config: A full config with a ``work_dir``; logs go to its subfolder ``lr_finder``.
        lowest: First rate. Default: 1e-7.
        highest: Last rate. Default: 1.
        steps: Number of steps. Default: 100.

    Raises:
        UserError: If the config has no single learning rate, or the loss explodes at once.
    """
    configured = config.optim_wrapper.get('optimizer', {}).get('lr')
    if not isinstance(configured, (int, float)) or configured <= 0:
        raise UserError(
            f'`optim_wrapper.optimizer.lr` is {configured!r}. Set it to a positive number; the '
            'range test needs it as the unit of the rates.'
        )
    config = copy.deepcopy(config)
    hook = _RangeTestHook(lowest, highest, steps, configured)
    config.train_cfg = dict(by_epoch=False, max_iters=steps)
    config.param_scheduler = None
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.custom_hooks = None
    config.loss_watch = config.early_stopping = None
    config.val_loss = config.resume = False
    config.setdefault('default_hooks', {}).update(checkpoint=None, param_scheduler=None)
    config.default_hooks.logger = dict(type='LoggerHook', interval=steps + 1)
    config.work_dir = str(Path(config.work_dir, 'lr_finder'))
    runner = build_runner(config)
    runner.register_hook(hook)
    runner.train()
    return _suggest(hook.rates, hook.losses)


def _suggest(rates: list[float], losses: list[float]) -> LearningRates:
    if len(rates) < 10:
        raise UserError(
            f'The loss exploded after {len(rates)} steps, at learning rates below '
            f'{max(rates, default=0):.1e}. Check the data with tools/browse_dataset.py, and the '
            'initial weights.'
        )
    best = rates[int(np.argmin(losses))]
    fell = 1 - min(losses) / losses[0] >= _LEAST_FALL
    return LearningRates(rates, losses, float(f'{best / 10:.1e}') if fell else None)


def write_json(found: LearningRates, path: str | Path) -> None:
    """Writes the result as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found._asdict(), indent=1))
