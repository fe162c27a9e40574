"""Print the table of variants, or write it into documents.

Examples:
    python tools/analysis/variants_table.py
    python tools/analysis/variants_table.py --update README.md
"""

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.variants import variants_table


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--update', nargs='+', default=[], metavar='FILE', help='documents to put the table into'
    )
    args = parser.parse_args()
    table = variants_table()
    for path in args.update:
        update_table(path, 'variants', table)
    if not args.update:
        print(table)


if __name__ == '__main__':
    main()
