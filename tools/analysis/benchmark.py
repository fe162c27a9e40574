r"""Time models side by side: latency of inference in several runtimes, or training steps.

Within a runtime the models take turns, so that a machine's drift hits all of them alike; read the
ratios. Runtimes follow one another, since their threads would disturb each other. Models of ours
are in deploy form in all runtimes but `eager`.

Examples:
    python tools/analysis/benchmark.py --models small timm:edgenext_small
    python tools/analysis/benchmark.py --models small timm:edgenext_small timm:mobilevit_s \
        --runtimes eager,deploy,onnxruntime,openvino --baseline timm:edgenext_small --markdown
    python tools/analysis/benchmark.py --train --batch 16 --shape 128 128 --rounds 40 \
        --models small timm:edgenext_small
    python tools/analysis/benchmark.py --device cuda --precision fp16 --batch 1,256 --models small
"""

import argparse
import json
from typing import Any

import torch

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.deployment.heads import DTYPES
from edgenext_mm.errors import UserError
from edgenext_mm.evaluation.complexity import count_complexity
from edgenext_mm.evaluation.latency import Timing, interleave, ratio_interval, training_call
from edgenext_mm.evaluation.machine import describe_machine, matmul_peak, peak_memory
from edgenext_mm.evaluation.models import build_named
from edgenext_mm.evaluation.runtimes import RUNTIMES, prepare


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        help='arch of an EdgeNeXt classifier, timm:NAME, mmpretrain:NAME, or a config',
    )
    parser.add_argument('--baseline', help='model that ratios are to (default: the last)')
    parser.add_argument(
        '--runtimes', default='eager', help=f'of {",".join(RUNTIMES)} (default: eager)'
    )
    parser.add_argument('--precision', choices=DTYPES, default='fp32', help='(default: fp32)')
    parser.add_argument('--train', action='store_true', help='time training steps instead')
    parser.add_argument('--batch', default='1', help='images per call, e.g. 1,16 (default: 1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    parser.add_argument('--rounds', type=int, default=200, help='calls of each model (200)')
    parser.add_argument('--warmup', type=int, default=10, help='calls before that (10)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--markdown', action='store_true', help='print a table for a document')
    return parser.parse_args()


def measure(args: argparse.Namespace, runtime: str, batch: int, peak: float) -> list[dict]:
    """The rows of one runtime and batch size."""
    x = torch.randn(batch, 3, *args.shape, device=args.device)
    models = {name: build_named(name) for name in args.models}
    madds = {
        name: count_complexity(model, tuple(args.shape)).madds * batch
        for name, model in models.items()
    }
    if args.train:
        calls = {name: training_call(m.to(args.device), x) for name, m in models.items()}
    else:
        calls = {
            name: prepare(runtime, m, x, args.precision, args.threads) for name, m in models.items()
        }
    timings = interleave(calls, args.rounds, args.warmup)
    baseline = timings[args.baseline or args.models[-1]]
    in_torch = args.train or runtime in ('eager', 'deploy')
    return [
        {
            'runtime': 'training' if args.train else runtime,
            'batch': batch,
            **describe(timings[name], baseline, batch),
            'model': name,
            'fraction_of_peak': round(madds[name] / timings[name].median / peak, 3)
            if not args.train
            else None,
            'peak_memory_mib': round(peak_memory(calls[name], args.device) / 2**20, 1)
            if in_torch
            else None,
        }
        for name in args.models
    ]


def describe(timing: Timing, baseline: Timing, batch: int) -> dict[str, Any]:
    low, high = timing.quartiles
    ratio = ratio_interval(timing, baseline)
    return dict(
        median_ms=round(timing.median * 1e3, 3),
        quartiles_ms=[round(low * 1e3, 3), round(high * 1e3, 3)],
        images_per_second=round(batch / timing.median, 2),
        time_ratio=round(timing.median / baseline.median, 4),
        time_ratio_95=[round(r, 4) for r in ratio],
        throughput_ratio=round(baseline.median / timing.median, 4),
    )


def markdown(rows: list[dict]) -> str:
    lines = [
        '| runtime | batch | model | median, ms | quartiles | ratio (95%) | images/s | of peak '
        '| memory, MiB |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        low, high = row['quartiles_ms']
        ratio_low, ratio_high = row['time_ratio_95']
        fraction, memory = row['fraction_of_peak'], row['peak_memory_mib']
        lines.append(
            f'| {row["runtime"]} | {row["batch"]} | {row["model"]} | {row["median_ms"]:.2f} '
            f'| {low:.2f} to {high:.2f} | {row["time_ratio"]:.3f} ({ratio_low:.3f} to '
            f'{ratio_high:.3f}) | {row["images_per_second"]:.1f} '
            f'| {"" if fraction is None else f"{fraction:.0%}"} '
            f'| {"" if memory is None else memory} |'
        )
    return '\n'.join(lines)


@reports_errors
def main() -> None:
    args = parse_args()
    if args.device != 'cpu' and not torch.cuda.is_available():
        raise UserError(f'--device {args.device}: PyTorch finds no GPU here. Give --device cpu.')
    if args.baseline and args.baseline not in args.models:
        raise UserError(f'The baseline {args.baseline} is none of the models.')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    peak = matmul_peak(DTYPES[args.precision], args.device)
    rows = [
        row
        for runtime in (['training'] if args.train else args.runtimes.split(','))
        for batch in map(int, args.batch.split(','))
        for row in measure(args, runtime, batch, peak)
    ]
    title = (
        f'{"training step" if args.train else "inference"}, {args.shape[0]}x{args.shape[1]}, '
        f'{args.precision}, {args.threads} threads, medians of {args.rounds} interleaved rounds; '
        f'{describe_machine(args.device)}; matrix products reach {peak / 1e9:.0f} GMAC/s'
    )
    if args.json:
        print(json.dumps(dict(title=title, rows=rows), indent=2))
    else:
        print(title + '\n' * (1 + args.markdown) + markdown(rows))


if __name__ == '__main__':
    main()
