"""Lay the paper's tables and figures beside ours: cost, accuracy, latency.

Examples:
    python tools/analysis/paper_tables.py --table 3
    python tools/analysis/paper_tables.py --table F3 --latency --json
    python tools/test.py CONFIG CHECKPOINT --out results/CONFIG.json
    python tools/analysis/paper_tables.py --results results --out docs
"""

from pathlib import Path

import torch

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.paper_tables import fill_tables, to_document, to_json, to_markdown
from edgenext_mm.evaluation.published import TABLES
from edgenext_mm.files import replacing
from edgenext_mm.visualization.paper_figures import draw_figure1, draw_figure3


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--table', nargs='+', metavar='N', help=f'some of {", ".join(TABLES)} (default: all)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write paper_tables.md, and figures/ as SVG and PNG (all tables)',
    )
    parser.add_argument(
        '--results', metavar='DIR', help='folder of results of tools/test.py: CONFIG_NAME.json'
    )
    parser.add_argument(
        '--latency', action='store_true', help='time the classifiers on this CPU, batch 1'
    )
    parser.add_argument('--rounds', type=int, default=30, help='of timing (default: 30)')
    parser.add_argument('--threads', type=int, default=2, help='of the CPU (default: 2)')
    args = parser.parse_args()
    if args.out and args.table:
        parser.error('--out writes all tables; leave --table out')
    torch.set_num_threads(args.threads)
    tables = fill_tables(args.table or TABLES, args.results, args.rounds if args.latency else 0)
    if args.json:
        print(to_json(tables))
    elif not args.out:
        print('\n'.join(to_markdown(number, lines) for number, lines in tables.items()))
    if args.out:
        folder = Path(args.out, 'figures')
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ('svg', 'png'):
            draw_figure1([*tables['2'], *tables['3']], folder / f'figure1.{suffix}')
            draw_figure3(tables['F3'], folder / f'figure3.{suffix}')
        with replacing(Path(args.out, 'paper_tables.md')) as temporary:
            temporary.write_text(to_document(tables))


if __name__ == '__main__':
    main()
