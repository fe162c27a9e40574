"""Count the parameters and multiply-adds (MAdds) of a config's model.

Examples:
    python tools/analysis/get_flops.py configs/classification/edgenext-small_8xb256_in1k.py
    python tools/analysis/get_flops.py CONFIG --shape 224 224 --json
"""

import json
from dataclasses import asdict

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.models.building import build_model


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        default=(256, 256),
        help='size of the input image in pixels (default: 256 256)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args()
    config = load_config(find_config(args.config), args.cfg_options)
    complexity = count_complexity(build_model(config), args.shape, openmmlab=True)
    if args.json:
        print(json.dumps(asdict(complexity)))
    else:
        print(f'parameters  {complexity.params:,}')
        print(f'MAdds       {complexity.madds / 1e6:,.2f}M at {args.shape[0]}x{args.shape[1]}')


if __name__ == '__main__':
    main()
