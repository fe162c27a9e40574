r"""Time mmengine's training loop beside a plain PyTorch loop that does the same work.

The same model, optimiser and batches, from images in memory; the loops take turns in blocks, so
that a machine's drift hits both alike. Ours makes data samples, collates and preprocesses them and
calls the hooks of the config; the plain one indexes a tensor. Neither validates nor saves.

Examples:
    python tools/analysis/loop_overhead.py CONFIG
    python tools/analysis/loop_overhead.py CONFIG --shapes 64 128 --batch 64 --ema --json
    python tools/analysis/loop_overhead.py \
        configs/classification/edgenext-xxsmall_1xb64-30e_folder.py --update docs/distributed.md
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time

import torch

from edgenext_mm.apis.cli import add_config_options, load_config, make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.latency import paired_ratio, ratio_interval
from edgenext_mm.evaluation.loop_overhead import Overhead, measure_overhead
from edgenext_mm.evaluation.machine import describe_machine

EMA = dict(type='EMAHook', momentum=0.0005, update_buffers=True)


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


def describe(shape: int, overhead: Overhead) -> dict:
    low, high = ratio_interval(overhead.runner, overhead.plain)
    return dict(
        shape=shape,
        runner_ms=round(overhead.runner.median * 1e3, 1),
        plain_ms=round(overhead.plain.median * 1e3, 1),
        ratio=round(paired_ratio(overhead.runner, overhead.plain), 3),
        ratio_95=[round(low, 3), round(high, 3)],
        parts_ms={name: round(seconds * 1e3, 3) for name, seconds in overhead.parts.items()},
    )


def steps_table(rows: list[dict]) -> str:
    lines = ['| image | mmengine, ms | plain, ms | ratio (95%) |', '|---|---|---|---|']
    for row in rows:
        lines.append(
            f'| {row["shape"]}x{row["shape"]} | {row["runner_ms"]:.1f} | {row["plain_ms"]:.1f} '
            f'| {row["ratio"]:.3f} ({row["ratio_95"][0]:.3f} to {row["ratio_95"][1]:.3f}) |'
        )
    return '\n'.join(lines)


def parts_table(rows: list[dict]) -> str:
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
