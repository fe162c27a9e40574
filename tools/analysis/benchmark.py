r"""Time models side by side in one run: latency of inference, or throughput of training steps.

The models take turns, so that a machine's drift hits all of them alike; read the ratios.

Examples:
    python tools/analysis/benchmark.py --models xxsmall timm:edgenext_xx_small
    python tools/analysis/benchmark.py --models small timm:edgenext_small --threads 4 --json
    python tools/analysis/benchmark.py --train --batch 16 --shape 128 128 --rounds 40 \
        --models small timm:edgenext_small
"""

import argparse
import json

import torch

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.latency import (
    Timing,
    inference_call,
    interleave,
    training_call,
)
from edgenext_mm.evaluation.models import build_named


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        help='arch of an EdgeNeXt classifier, timm:NAME, or a config; ratios are to the last',
    )
    parser.add_argument('--train', action='store_true', help='time training steps instead')
    parser.add_argument('--batch', type=int, default=1, help='images per call (default: 1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    parser.add_argument('--rounds', type=int, default=200, help='calls of each model (200)')
    parser.add_argument('--warmup', type=int, default=10, help='calls before that (10)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser.parse_args()


def report(timings: dict[str, Timing], batch: int) -> list[dict]:
    *_, baseline = timings.values()
    rows = []
    for name, timing in timings.items():
        low, high = timing.quartiles
        rows.append(
            dict(
                model=name,
                median_ms=round(timing.median * 1e3, 3),
                quartiles_ms=[round(low * 1e3, 3), round(high * 1e3, 3)],
                images_per_second=round(batch / timing.median, 2),
                time_ratio=round(timing.median / baseline.median, 4),
                throughput_ratio=round(baseline.median / timing.median, 4),
            )
        )
    return rows


@reports_errors
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(args.batch, 3, *args.shape)
    make_call = training_call if args.train else inference_call
    calls = {name: make_call(build_named(name), x) for name in args.models}
    rows = report(interleave(calls, args.rounds, args.warmup), args.batch)
    kind = 'training step' if args.train else 'inference'
    title = (
        f'{kind}, batch {args.batch}, {args.shape[0]}x{args.shape[1]}, {args.threads} threads, '
        f'medians of {args.rounds} interleaved rounds, torch {torch.__version__} on the CPU'
    )
    if args.json:
        print(json.dumps(dict(title=title, rows=rows), indent=2))
        return
    print(title)
    print(f'{"model":32} {"median":>10} {"quartiles":>19} {"images/s":>9} {"time":>7} {"speed":>7}')
    for row in rows:
        low, high = row['quartiles_ms']
        print(
            f'{row["model"]:32} {row["median_ms"]:7.2f} ms {low:8.2f} -{high:6.2f} ms '
            f'{row["images_per_second"]:9.1f} '
            f'{row["time_ratio"]:6.3f}x {row["throughput_ratio"]:6.3f}x'
        )


if __name__ == '__main__':
    main()
