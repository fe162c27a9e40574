r"""Time mmengine's training loop beside a plain PyTorch loop that does the same work.

The same model, optimiser and batches, from images in memory; the loops take turns in blocks, so
that a machine's drift hits both alike. Ours makes data samples, collates and preprocesses them and
calls the hooks of the config; the plain one indexes a tensor. Neither validates nor saves.

Examples:
    python -m benchmarks.loop_overhead CONFIG
    python -m benchmarks.loop_overhead CONFIG --shapes 64 128 --batch 64 --ema --json
    python -m benchmarks.loop_overhead \
        configs/classification/edgenext-xxsmall_1xb64-30e_folder.py --update docs/distributed.md
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner

from .documents import update_table
from .latency import Timing, interleave, paired_ratio, ratio_interval
from .machine import describe_machine

EMA = dict(type='EMAHook', momentum=0.0005, update_buffers=True)
STAGES = ('before_train_epoch', 'before_train_iter', 'after_train_iter', 'after_train_epoch')


@dataclass(frozen=True)
class Overhead:
    """What a comparison measures.

    Attributes:
        runner: Seconds per iteration of mmengine's loop, by block.
        plain: Those of the plain loop, from the same rounds.
        parts: Seconds per iteration of each hook and of what precedes the model, by name; medians.
    """

    runner: Timing
    plain: Timing
    parts: dict[str, float]


class ImagesInMemory(Dataset):
    """Random images with random labels, as a pipeline of mmpretrain leaves them.

    Args:
        count: How many.
        shape: Height and width.
        num_classes: Of the labels.
    """

    def __init__(self, count: int, shape: tuple[int, int], num_classes: int) -> None:
        self.images = torch.randint(256, (count, 3, *shape), dtype=torch.uint8)
        self.labels = torch.randint(num_classes, (count,))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from mmpretrain.structures import DataSample

        label = self.labels[index : index + 1]
        return dict(inputs=self.images[index], data_samples=DataSample().set_gt_label(label))


class PlainLoop:
    """The training of a runner as one writes it in plain PyTorch.

    It does what the runner's does: shuffle, normalise, forward, cross-entropy, backward, the
    optimiser's step, a schedule, a moving average where the runner has one, and a loss to report
    at the logger's interval. It starts from a copy of the runner's model.

    Args:
        runner: A runner of a classifier that is about to train.
        data: The images.
        batch_size: Images per step.
    """

    def __init__(self, runner: Runner, data: ImagesInMemory, batch_size: int) -> None:
        self.model = copy.deepcopy(runner.model)
        # Plain code reads files as RGB; OpenCV's order is for the preprocessor to turn around.
        to_rgb = self.model.data_preprocessor.to_rgb
        self.images = data.images.flip(1) if to_rgb else data.images
        self.labels = data.labels
        self.batch_size = batch_size
        self.loss = nn.CrossEntropyLoss(
            label_smoothing=getattr(self.model.head.loss_module, 'label_smooth_val', 0)
        )
        self.optimizer = _twin_of(runner, self.model)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        averages = [hook.ema_cfg for hook in runner.hooks if isinstance(hook, EMAHook)]
        self.average = (
            AveragedModel(
                self.model,
                multi_avg_fn=get_ema_multi_avg_fn(1 - averages[0].get('momentum', 2e-4)),
                use_buffers=averages[0].get('update_buffers', False),
            )
            if averages
            else None
        )
        self.interval = runner.cfg.default_hooks.logger.interval
        self.reported: list[float] = []
        self.steps = 0

    def run_epoch(self) -> None:
        """Trains on all images once."""
        self.model.train()
        for batch in torch.randperm(len(self.images)).split(self.batch_size):
            self.step(self.images[batch], self.labels[batch])

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Trains on one batch of (B, 3, H, W) bytes in RGB and (B,) labels."""
        preprocessor = self.model.data_preprocessor
        device = next(self.model.parameters()).device
        images = (images.to(device).float() - preprocessor.mean) / preprocessor.std
        loss = self.loss(self.model(images), labels.to(device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.steps += 1
        if self.steps % self.interval == 0:
            self.reported.append(loss.item())


def _twin_of(runner: Runner, model: nn.Module) -> torch.optim.Optimizer:
    """The runner's optimiser for a copy of its model: one group for all that share settings."""
    settings = dict(runner.cfg.optim_wrapper.optimizer)
    twins = dict(zip(runner.model.parameters(), model.parameters(), strict=True))
    merged: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for group in runner.optim_wrapper.optimizer.param_groups:
        merged[group['lr'], group['weight_decay']] += [twins[p] for p in group['params']]
    groups = [dict(params=p, lr=lr, weight_decay=decay) for (lr, decay), p in merged.items()]
    return getattr(torch.optim, settings.pop('type'))(groups, **settings)


class InterleavedLoop(EpochBasedTrainLoop):
    """mmengine's loop, whose epochs take turns with those of a plain loop.

    Args:
        runner: The runner.
        data: The images of one epoch.
        batch_size: Images per step.
        rounds: Epochs of each loop that count.
        warmup: Rounds before them that do not.
        clock: Tells seconds. Default: of the wall; ``time.process_time`` does not mind what else
            the machine runs, and suits one thread on the CPU.
    """

    def __init__(
        self,
        runner: Runner,
        data: ImagesInMemory,
        batch_size: int,
        rounds: int,
        warmup: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        loader = dict(
            batch_size=batch_size,
            num_workers=0,
            dataset=data,
            sampler=dict(type='DefaultSampler', shuffle=True),
        )
        super().__init__(runner, loader, max_epochs=rounds + warmup)
        self.data, self.batch_size, self.rounds, self.warmup = data, batch_size, rounds, warmup
        self.clock = clock
        self.parts: list[dict[str, float]] = []
        self.result: Overhead | None = None

    def run(self) -> nn.Module:
        """Times the loops, the parts of ours, and its data loader alone."""
        # Before hooks of the runner are at the model, which would be copied with it.
        self.plain = PlainLoop(self.runner, self.data, self.batch_size)
        self.runner.call_hook('before_train')
        calls = dict(
            mmengine=self.run_epoch,
            plain=self.plain.run_epoch,
            loader=lambda: deque(self.dataloader, maxlen=0),
        )
        runner, plain, loader = (
            Timing(tuple(seconds / len(self.dataloader) for seconds in timing.seconds))
            for timing in interleave(calls, self.rounds, self.warmup, self._seconds).values()
        )
        parts = {
            name: statistics.median(parts[name] for parts in self.parts[self.warmup :])
            for name in self.parts[0]
        }
        self.result = Overhead(runner, plain, {**parts, 'data loader': loader.median})
        self.runner.call_hook('after_train')
        return self.runner.model

    def _seconds(self, call: Callable[[], object]) -> float:
        start = self.clock()
        call()
        return self.clock() - start

    def run_epoch(self) -> None:
        """Trains for one epoch, in which the parts are timed."""
        with _timed_parts(self.runner, self.clock) as parts:
            super().run_epoch()
        steps = len(self.dataloader)
        self.parts.append({name: seconds / steps for name, seconds in parts.items()})


@contextmanager
def _timed_parts(runner: Runner, clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Sums the seconds that a runner spends in each of its hooks and in the data preprocessor."""
    parts: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                parts[name] += clock() - start

        return call

    hooks, preprocessor = runner._hooks, runner.model.data_preprocessor
    runner._hooks = [
        SimpleNamespace(**{s: timed(type(hook).__name__, getattr(hook, s)) for s in STAGES})
        for hook in hooks
    ]
    preprocessor.forward = timed('data preprocessor', preprocessor.forward)
    try:
        yield parts
    finally:
        runner._hooks = hooks
        del preprocessor.forward


def measure_overhead(
    config: Config,
    shape: tuple[int, int] = (64, 64),
    batch_size: int = 64,
    steps: int = 10,
    rounds: int = 15,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Overhead:
    """Trains a classifier in mmengine's loop and in a plain one, in turns, on images in memory.

    Validation and checkpoints are left out; hooks, logging and schedules are as in the config.

    Args:
        config: Of a classifier of mmpretrain whose loss is cross-entropy, with or without label
            smoothing. It is changed.
        shape: Height and width of the images. Default: 64 x 64.
        batch_size: Images per step. Default: 64.
        steps: Iterations of each block. Default: 10.
        rounds: Blocks of each loop. Default: 15.
        warmup: Blocks before them that do not count. Default: 1.
        clock: Tells seconds. Default: of the wall; ``time.process_time`` does not mind what else
            the machine runs, and suits one thread on the CPU.
    """
    for split in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config[f'{split}_{part}'] = None
    config.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    runner = build_runner(config)
    data = ImagesInMemory(steps * batch_size, shape, config.model.head.num_classes)
    loop = InterleavedLoop(runner, data, batch_size, rounds, warmup, clock)
    runner._train_loop = loop  # the runner takes a loop that is built
    runner.train()
    assert loop.result is not None
    return loop.result


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument('--shapes', type=int, nargs='+', default=[64, 128], help='(64 128)')
    parser.add_argument('--batch', type=int, default=64, help='images per step (64)')
    parser.add_argument('--ema', action='store_true', help='with a moving average in both loops')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (2)')
    parser.add_argument('--steps', type=int, default=5, help='iterations of a block (5)')
    parser.add_argument('--rounds', type=int, default=15, help='blocks of each loop (15)')
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='count CPU time, where other programs compete for the machine; with --threads 1',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--update', metavar='FILE', help='put the tables into this document')
    return parser.parse_args()


def measure(args: argparse.Namespace, shape: int) -> Overhead:
    """The comparison that the command line asks for, on square images."""
    config = load_config(args.config, args.cfg_options)
    config.custom_hooks = [EMA] if args.ema else []
    # The log goes to stderr: stdout may be for JSON.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        config.work_dir = folder
        config.experiment_name = f'overhead_{shape}_{args.ema}'
        return measure_overhead(
            config,
            (shape, shape),
            args.batch,
            args.steps,
            args.rounds,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )


def describe(shape: int, overhead: Overhead) -> dict[str, Any]:
    """A comparison in milliseconds, rounded."""
    low, high = ratio_interval(overhead.runner, overhead.plain)
    return dict(
        shape=shape,
        runner_ms=round(overhead.runner.median * 1e3, 1),
        plain_ms=round(overhead.plain.median * 1e3, 1),
        ratio=round(paired_ratio(overhead.runner, overhead.plain), 3),
        ratio_95=[round(low, 3), round(high, 3)],
        parts_ms={name: round(seconds * 1e3, 3) for name, seconds in overhead.parts.items()},
    )


def steps_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of both loops, a line for each size of images."""
    lines = ['| image | mmengine, ms | plain, ms | ratio (95%) |', '|---|---|---|---|']
    for row in rows:
        lines.append(
            f'| {row["shape"]}x{row["shape"]} | {row["runner_ms"]:.1f} | {row["plain_ms"]:.1f} '
            f'| {row["ratio"]:.3f} ({row["ratio_95"][0]:.3f} to {row["ratio_95"][1]:.3f}) |'
        )
    return '\n'.join(lines)


def parts_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of the parts of mmengine's loop, a column for each size of images."""
    names = sorted(rows[0]['parts_ms'], key=lambda name: -rows[0]['parts_ms'][name])
    shapes = [f'{row["shape"]}x{row["shape"]}, ms' for row in rows]
    lines = [f'| part | {" | ".join(shapes)} |', '|---' * (1 + len(rows)) + '|']
    for name in names:
        times = [f'{row["parts_ms"][name]:.2f}' for row in rows]
        lines.append(f'| {name} | {" | ".join(times)} |')
    return '\n'.join(lines)


@reports_errors
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [describe(shape, measure(args, shape)) for shape in args.shapes]
    title = (
        f'{args.config}, batches of {args.batch}{", EMA" if args.ema else ""}, {args.threads} '
        f'threads, {"CPU" if args.cpu_time else "wall"} time, medians of {args.rounds} interleaved '
        f'blocks of {args.steps} steps; '
        f'{describe_machine()}'
    )
    if args.json:
        print(json.dumps(dict(title=title, rows=rows), indent=2))
    else:
        print(title, steps_table(rows), parts_table(rows), sep='\n\n')
    if args.update:
        name = 'ema' if args.ema else 'overhead'
        update_table(args.update, name, f'{steps_table(rows)}\n\n{parts_table(rows)}')


if __name__ == '__main__':
    main()
