r"""Time models side by side: latency of inference in several runtimes, or training steps.

Each model has a process of its own, as where it is used. Within a runtime models and precisions
take turns, so that a machine's drift hits all alike, and so do PyTorch's runtimes; read the ratios.
A turn is two calls: one brings the weights back into the caches, and one is timed. Models of ours
are in deploy form in all runtimes but `eager`. INT8 is calibrated on the random images that are
timed: good for speed alone.

Examples:
    python tools/analysis/benchmark.py --models small timm:edgenext_small
    python tools/analysis/benchmark.py --models small timm:edgenext_small timm:mobilevit_s \
        --runtimes eager,deploy,onnxruntime,openvino --precision fp32,int8 \
        --baseline timm:edgenext_small --markdown --plot speed.png
    python tools/analysis/benchmark.py --train --batch 16 --shape 128 128 --rounds 40 \
        --models small timm:edgenext_small
    python tools/analysis/benchmark.py --device cuda --batch 1,256 --precision fp32,fp16 \
        --runtimes deploy,compile --cuda-graphs --models small timm:mobilevit_s
"""

import argparse
import json

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.deployment.formats import PRECISIONS
from edgenext_mm.errors import UserError
from edgenext_mm.evaluation.benchmark import TRAINING, Plan, run
from edgenext_mm.evaluation.benchmark_tables import long_table, wide_table
from edgenext_mm.evaluation.documents import find_table, update_table
from edgenext_mm.evaluation.runtimes import RUNTIMES, Settings
from edgenext_mm.visualization.benchmark_figure import draw_benchmark


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        help='arch of an EdgeNeXt classifier, ARCH:with_cp, timm:NAME, mmpretrain:NAME or a config',
    )
    parser.add_argument(
        '--baseline',
        help="model that ratios are to, at the first precision; `timm`: each arch's of the same "
        'size (default: the last model)',
    )
    parser.add_argument(
        '--runtimes', default='eager', help=f'of {",".join(RUNTIMES)} (default: eager)'
    )
    parser.add_argument(
        '--precision', default='fp32', help=f'of {",".join(PRECISIONS)} (default: fp32)'
    )
    parser.add_argument('--train', action='store_true', help='time training steps instead')
    parser.add_argument('--batch', default='1', help='images per call, e.g. 1,16 (default: 1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    parser.add_argument('--channels-last', action='store_true', help="PyTorch's memory format")
    parser.add_argument('--cuda-graphs', action='store_true', help='replay a graph of all kernels')
    parser.add_argument('--rounds', type=int, default=200, help='calls of each model (200)')
    parser.add_argument('--warmup', type=int, default=10, help='calls before that (10)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--markdown', action='store_true', help='print a table for a document')
    parser.add_argument('--plot', metavar='FILE', help='draw the medians: .png or .svg')
    parser.add_argument(
        '--update',
        nargs='+',
        metavar=('TABLE', 'FILE'),
        help='put the table between the marks TABLE of documents; of inference, a column for '
        'each runtime',
    )
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    return Plan(
        models=args.models,
        runtimes=[TRAINING] if args.train else args.runtimes.split(','),
        precisions=_known(args.precision.split(',')),
        batches=[int(batch) for batch in args.batch.split(',')],
        shape=tuple(args.shape),
        baseline=args.baseline or args.models[-1],
        device=args.device,
        rounds=args.rounds,
        warmup=args.warmup,
        settings=Settings(
            threads=args.threads, channels_last=args.channels_last, cuda_graphs=args.cuda_graphs
        ),
    )


def _known(precisions: list[str]) -> list[str]:
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UserError(
                f'Unknown precision {precision!r}. Choose from {", ".join(PRECISIONS)}.'
            )
    return precisions


@reports_errors
def main() -> None:
    args = parse_args()
    plan = plan_of(args)
    table, *documents = args.update or ('',)
    for path in documents:
        find_table(path, table)  # before the work
    result = run(plan)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print(result['title'] + '\n' * (1 + args.markdown) + long_table(result['rows']))
    if args.plot:
        draw_benchmark(result['rows'], args.plot)
    write = long_table if args.train else wide_table
    for path in documents:
        update_table(path, table, f'{result["title"]}.\n\n{write(result["rows"])}')


if __name__ == '__main__':
    main()
