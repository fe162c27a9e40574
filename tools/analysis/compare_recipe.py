"""Compare a config for ImageNet-1K with the paper's recipe, field by field.

Exits with status 1 where a field differs.

Example:
    python tools/analysis/compare_recipe.py configs/classification/edgenext-small_8xb256_in1k.py
"""

import sys

from edgenext_mm.apis.cli import add_config_options, load_config, make_parser, reports_errors
from edgenext_mm.apis.model import find_config
from edgenext_mm.evaluation.recipe import compare_recipe


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    args = parser.parse_args()
    fields = compare_recipe(load_config(find_config(args.config), args.cfg_options))
    for field in fields:
        print(f'{"ok  " if field.agrees else "DIFF"}  {field.name}: {field.config}')
        if not field.agrees:
            print(f'      recipe: {field.recipe}')
    sys.exit(0 if all(field.agrees for field in fields) else 1)


if __name__ == '__main__':
    main()
