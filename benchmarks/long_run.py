r"""Train and check whether memory, file descriptors, shared memory or logs grow.

Exits with status 1 if memory grows. Validation and checkpoints follow the config. Draws
WORK_DIR/long_run.png and writes the samples to WORK_DIR/long_run.json.

Examples:
    python -m benchmarks.long_run CONFIG --iterations 2000
    python -m benchmarks.long_run configs/classification/edgenext-xxsmall_digits.py \
        --cfg-options train_dataloader.batch_size=4 train_dataloader.num_workers=2
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from edgenext_mm.cli import (
    add_config_options,
    add_runner_options,
    make_parser,
    merge_runner_args,
    reports_errors,
)
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.visualization.figure import new_figure, save

from .documents import update_table
from .usage_hook import Sample, Usage, UsageHook


def growth(samples: Sequence[Sample], skip: float = 0.5) -> Usage:
    """Returns the growth per 1,000 iterations: the median slope between any two samples.

    Args:
        samples: The samples of one training.
        skip: The fraction of samples to ignore at the start, while caches fill. Default: 0.5.
    """
    kept = samples[int(len(samples) * skip) :]
    i, j = np.triu_indices(len(kept), k=1)
    iterations = np.array([s.iteration for s in kept], float)
    values = np.array([list(asdict(s.usage).values()) for s in kept])
    slopes = (values[j] - values[i]) / (iterations[j] - iterations[i])[:, None]
    return Usage(*(float(slope) for slope in np.median(slopes, axis=0) * 1000))


def plot_usage(samples: Sequence[Sample], path: str | os.PathLike[str]) -> None:
    """Draws the usage over the iterations.

    Args:
        samples: The samples of one training.
        path: The PNG, SVG or PDF file to write.
    """
    figure = new_figure(12, 3.4)
    iterations = [s.iteration for s in samples]
    memory, rest, logs = fields(Usage)[:4], fields(Usage)[4:6], fields(Usage)[6:]
    for axis, lines in zip(figure.subplots(1, 3), (memory, rest, logs), strict=True):
        for line in lines:
            values = [getattr(s.usage, line.name) for s in samples]
            axis.plot(iterations, values, label=line.metadata['title'])
        axis.set(xlabel='iteration', ylim=(0, None))
        axis.legend()
        axis.grid(alpha=0.3)
    save(figure, path)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    add_runner_options(parser)
    parser.add_argument(
        '--iterations', type=int, default=2000, help='minimum number (default: 2000)'
    )
    parser.add_argument(
        '--interval', type=int, default=20, help='iterations between two samples (default: 20)'
    )
    parser.add_argument(
        '--most',
        type=float,
        default=5,
        help='allowed growth of memory in MiB per 1,000 iterations (default: 5)',
    )
    parser.add_argument('--update', metavar='FILE', help='write the table to this document')
    return parser.parse_args()


def set_length(config: Config, iterations: int) -> None:
    """Sets the length of a training, rounded up to complete epochs."""
    if 'max_iters' in config.train_cfg:
        config.train_cfg.max_iters = iterations
        return
    init_default_scope(config.default_scope)
    steps = len(Runner.build_dataloader(config.train_dataloader, seed=0))
    config.train_cfg.max_epochs = math.ceil(iterations / steps)


def usage_table(samples: Sequence[Sample]) -> str:
    """Returns a Markdown table of the usage at the start and at the end, and its growth."""
    first, last = samples[0], samples[-1]
    lines = [
        f'| | after {first.iteration} iterations | after {last.iteration} | growth per 1,000 |',
        '|---|---|---|---|',
    ]
    for field in fields(Usage):
        values = [getattr(usage, field.name) for usage in (first.usage, last.usage)]
        slope = getattr(growth(samples), field.name)
        name = field.metadata['title']
        lines.append(f'| {name} | {values[0]:,.1f} | {values[1]:,.1f} | {slope:+,.2f} |')
    return '\n'.join(lines)


@reports_errors
def main() -> None:
    args = parse_args()
    if args.iterations < 10 * args.interval:
        raise UserError(
            f'--iterations {args.iterations} with --interval {args.interval} gives fewer than 10 '
            'samples. Use more iterations or a shorter interval.'
        )
    config = load_config(args.config, args.cfg_options)
    merge_runner_args(config, args)
    check_data(config, 'train', 'val')
    set_length(config, args.iterations)
    runner = build_runner(config)
    hook = UsageHook(args.interval)
    runner.register_hook(hook)
    runner.train()

    work_dir = Path(config.work_dir)
    plot_usage(hook.samples, work_dir / 'long_run.png')
    samples = [dict(iteration=s.iteration, **asdict(s.usage)) for s in hook.samples]
    dump(samples, work_dir / 'long_run.json')
    table = usage_table(hook.samples)
    print(table, f'figure: {work_dir / "long_run.png"}', sep='\n\n')
    if args.update:
        update_table(args.update, 'long-run', table)
    slopes = growth(hook.samples)
    grown = slopes.main_own + slopes.workers_own
    if grown > args.most:
        raise UserError(
            f'Memory grows by {grown:.1f} MiB per 1,000 iterations, more than {args.most:g} MiB.'
        )


if __name__ == '__main__':
    main()
