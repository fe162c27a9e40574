"""Draw the loss, learning rate and validation metrics of a training.

Example:
    python tools/analysis/plot_curves.py work_dirs/edgenext-xxsmall_digits
"""

from pathlib import Path

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.visualization import plot_curves


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('work_dir', help='work folder of a training')
    parser.add_argument(
        '--out', metavar='FILE', help='PNG, SVG or PDF to write (default: WORK_DIR/curves.png)'
    )
    args = parser.parse_args()
    out = args.out or Path(args.work_dir) / 'curves.png'
    plot_curves(args.work_dir, out)
    print(f'picture: {out}')


if __name__ == '__main__':
    main()
