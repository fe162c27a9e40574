"""Check that a config's data is where it is looked for and fits the config.

Looks at every split, says what is missing and where it was looked for, and exits with status 1
where something is wrong.

Examples:
    python tools/check_dataset.py configs/detection/ssdlite_edgenext-small_4xb32-200e_coco.py
    python tools/check_dataset.py CONFIG --splits val test
"""

import sys

from edgenext_mm.apis.cli import add_config_options, load_config, make_parser, reports_errors
from edgenext_mm.apis.data import check_data, describe_data
from edgenext_mm.apis.model import find_config
from edgenext_mm.errors import UserError


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument(
        '--splits', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val', 'test']
    )
    args = parser.parse_args()
    config = load_config(find_config(args.config), args.cfg_options)
    wrong = False
    for split in args.splits:
        try:
            check_data(config, split)
            print(f'ok       {split}: {describe_data(config, split)}')
        except UserError as error:
            wrong = True
            print(f'PROBLEM  {split}: {error}')
    sys.exit(wrong)


if __name__ == '__main__':
    main()
