"""Measure the CPU time per training step of each hook.

Trains xxsmall on the digits without validation and checkpoints. All hooks are timed in the same
steps, so that a change of the machine's speed affects them alike. The result is the median over
epochs of the mean per step.

Examples:
    python -m benchmarks.loop_overhead
    python -m benchmarks.loop_overhead --epochs 20 --update docs/distributed.md
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets import write_digits
from edgenext_mm.engine.hooks.loss_watch_hook import LossWatchHook
from edgenext_mm.engine.runner import Runner

from .documents import update_table
from .machine import describe_machine

CONFIG = Path(__file__).parents[1] / 'configs/classification/edgenext-xxsmall_digits.py'
STEP = 'complete step'


class TimedRunner(Runner):
    """A runner that sums the seconds in each hook, by epoch."""

    epochs: list[dict[str, float]]

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Calls a method of all hooks and times each call."""
        if fn_name == 'before_train_epoch':
            self.epochs.append(defaultdict(float, {STEP: -time.process_time()}))
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                self.call(type(hook).__name__, getattr(hook, fn_name), self, **kwargs)
        if fn_name == 'after_train_epoch':
            self.epochs[-1][STEP] += time.process_time()

    def call(self, name: str, function: Callable, *args: Any, **kwargs: Any) -> None:
        """Calls a function and adds the time to a name."""
        start = time.process_time()
        function(*args, **kwargs)
        if self.epochs:
            self.epochs[-1][name] += time.process_time() - start

    def _own_hooks(self) -> Iterator[Hook]:
        runner = self

        class TimedLossWatch(LossWatchHook):  # also works in hooks of the model and the optimizer
            def _keep_losses(self, *args: Any) -> None:
                runner.call('LossWatchHook', super()._keep_losses, *args)

            def _before_step(self, *args: Any) -> None:
                runner.call('LossWatchHook', super()._before_step, *args)

        TimedLossWatch.__name__ = 'LossWatchHook'
        for hook in super()._own_hooks():
            yield TimedLossWatch() if isinstance(hook, LossWatchHook) else hook


def measure(config: Config) -> dict[str, float]:
    """Returns the milliseconds per step by hook; the first epoch is not counted."""
    epochs: list[dict[str, float]] = []
    TimedRunner.epochs = epochs
    runner = TimedRunner.from_cfg(config)
    runner.train()
    steps = len(runner.train_dataloader)
    names = {name for epoch in epochs for name in epoch}
    return {n: statistics.median(e[n] for e in epochs[1:]) / steps * 1000 for n in names}


def cost_table(costs: dict[str, float]) -> str:
    """Returns a Markdown table, the most expensive hook first; hooks below 5 us are left out."""
    rows = ['| hook | ms per step | share of the step |', '|---|---|---|']
    for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
        if cost >= 0.005:
            rows.append(f'| {name} | {cost:.2f} | {cost / costs[STEP]:.1%} |')
    return '\n'.join(rows)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('--epochs', type=int, default=10, help='of 23 steps (default: %(default)s)')
    parser.add_argument('--update', metavar='FILE', help='write the table to this document')
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(CONFIG)
    config.update(dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator')))
    config.train_dataloader.update(num_workers=0)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.0005, update_buffers=True)]
    config.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    config.train_cfg = dict(by_epoch=True, max_epochs=args.epochs)
    with tempfile.TemporaryDirectory() as folder:
        write_digits(f'{folder}/digits')
        config.train_dataloader.dataset.data_root = f'{folder}/digits'
        config.work_dir = f'{folder}/work'
        table = cost_table(measure(config))
    print(describe_machine(), table, sep='\n\n')
    if args.update:
        update_table(args.update, 'overhead', table)


if __name__ == '__main__':
    main()
