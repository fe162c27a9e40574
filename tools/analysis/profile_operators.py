r"""Show where the time of models goes: the operators of a runtime on a CPU, side by side.

Recording takes time of its own, mostly for small operators: compare columns and rows, and take
totals from tools/analysis/benchmark.py.

Examples:
    python tools/analysis/profile_operators.py small timm:edgenext_small --runtime deploy
    python tools/analysis/profile_operators.py small timm:edgenext_small --runtime training \
        --batch 16 --shape 128 128
    python tools/analysis/profile_operators.py small timm:mobilevit_s --runtime onnxruntime
"""

import argparse

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import find_table, update_table
from edgenext_mm.evaluation.machine import describe_machine
from edgenext_mm.evaluation.operators import PROFILERS, operators_table, profile_models


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('models', nargs='+', help='as for tools/analysis/benchmark.py')
    parser.add_argument(
        '--runtime',
        choices=('eager', 'deploy', 'training', *PROFILERS),
        default='eager',
        help='%(choices)s (default: %(default)s)',
    )
    parser.add_argument('--batch', type=int, default=1, help='images per call (1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (2)')
    parser.add_argument('--calls', type=int, default=20, help='calls to average over (20)')
    parser.add_argument('--rows', type=int, default=15, help='operators to name (15)')
    parser.add_argument(
        '--update', nargs=2, metavar=('TABLE', 'FILE'), help='put the table into a document'
    )
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    if args.update:
        find_table(args.update[1], args.update[0])  # before the work
    times = profile_models(
        args.models, args.runtime, args.batch, tuple(args.shape), args.threads, args.calls
    )
    table = operators_table(times, args.rows)
    height, width = args.shape
    title = (
        f'{args.runtime}, batch {args.batch}, {height}x{width}, {args.threads} threads, '
        f'{args.calls} calls; {describe_machine()}'
    )
    print(f'{title}\n\n{table}')
    if args.update:
        update_table(args.update[1], args.update[0], f'{title}.\n\n{table}')


if __name__ == '__main__':
    main()
