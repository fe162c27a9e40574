"""Write scenes of handwritten digits over photographs, in the formats of COCO, VOC and DOTA.

Examples:
    python tools/dataset_converters/digit_scenes.py --out data/digit_scenes
    python tools/dataset_converters/digit_scenes.py --out data/large --size 192 --max-digits 8
"""

import sys
from dataclasses import fields

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.datasets import SceneSettings, write_digit_scenes

HELP = dict(
    num_train='number of training scenes',
    num_val='number of validation scenes',
    size='height and width in pixels',
    max_digits='largest number of digits per scene',
    seed='random seed',
)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--out', default='data/digit_scenes', help='folder to create (default: %(default)s)'
    )
    for field in fields(SceneSettings):
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=int,
            default=field.default,
            help=f'{HELP[field.name]} (default: %(default)s)',
        )
    args = vars(parser.parse_args())
    out = args.pop('out')
    written = write_digit_scenes(out, SceneSettings(**args), progress=sys.stderr.isatty())
    print(f'{out}: {"written" if written else "already complete"}')


if __name__ == '__main__':
    main()
