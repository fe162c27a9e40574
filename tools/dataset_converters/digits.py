"""Write scikit-learn's handwritten digits as PNG files, one folder per class.

Example:
    python tools/dataset_converters/digits.py --out data/digits
"""

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.datasets import write_digits


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--out', default='data/digits', help='folder to create (default: %(default)s)'
    )
    args = parser.parse_args()
    written = write_digits(args.out)
    print(f'{args.out}: {"written" if written else "already complete"}')


if __name__ == '__main__':
    main()
