"""Print the parameters and multiply-adds of a folder's configs, or write them into a document.

Examples:
    python tools/analysis/complexity_table.py configs/detection
    python tools/analysis/complexity_table.py configs/detection --update
"""

from pathlib import Path

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.errors import UserError
from edgenext_mm.evaluation.complexity_table import complexity_table
from edgenext_mm.evaluation.documents import update_table


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('folders', nargs='+', help='folders of configs')
    parser.add_argument(
        '--update', action='store_true', help='put the table into the README.md of the folder'
    )
    args = parser.parse_args()
    for folder in map(Path, args.folders):
        if not folder.is_dir():
            raise UserError(f'There is no folder {folder}. Give one of those in configs/.')
        table = complexity_table(folder)
        if args.update:
            update_table(folder / 'README.md', 'complexity', table)
        else:
            print(table)


if __name__ == '__main__':
    main()
