"""Write a report on a trained model: one HTML page with numbers, curves and pictures.

The page needs no network. It shows metrics per class, confusions, the score threshold to use,
errors by kind, calibration, the worst images with activation maps, training curves and cost.
report.json beside it has all numbers. docs/report.md describes them.

Examples:
    python tools/report.py CONFIG work_dirs/NAME/best_*.pth
    python tools/report.py CONFIG work_dirs/NAME/epoch_30.pth --out reports/cells --images 24
    python tools/report.py CONFIG model.onnx     # written by tools/deployment/export.py
"""

import argparse
import sys
from pathlib import Path

from edgenext_mm.apis.model import load_model
from edgenext_mm.checkpoints.finding import find_checkpoint
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.engine.work_folder import work_folder
from edgenext_mm.report.writing import write_report
from edgenext_mm.runtime.formats import format_of


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument('checkpoint', help='weights: path, URL, zoo name; or an exported file')
    parser.add_argument(
        '--out', metavar='DIR', help='folder for the report (default: WORK_FOLDER/report)'
    )
    parser.add_argument(
        '--images',
        type=int,
        default=12,
        metavar='N',
        help='number of worst images to show (default: %(default)s)',
    )
    parser.add_argument('--device', help='where to run, e.g. cpu or cuda:1 (default: a GPU if any)')
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    config.work_dir = str(work_folder(config))
    if format_of(args.checkpoint):
        source = Path(args.checkpoint)
        model, training = load_model(source), None
    else:
        source = find_checkpoint(args.checkpoint)
        model, training = load_model(config, source, args.device), source.parent
    out = Path(args.out or Path(config.work_dir, 'report'))
    numbers = write_report(
        config,
        model,
        out,
        source=source,
        work_dir=training,
        num_images=args.images,
        command=' '.join(['python', *sys.argv]),
    )
    for name, value in numbers['overall'].items():
        print(f'{name:28} {value:.4f}')
    print(f'report: {out / "report.html"}')


if __name__ == '__main__':
    main()
