"""Write scenes of handwritten digits over photographs, annotated as COCO, VOC and DOTA have it.

Examples:
    python tools/dataset_converters/digit_scenes.py --out data/digit_scenes
    python tools/dataset_converters/digit_scenes.py --out data/large --size 192 --max-digits 8
"""

import sys
from dataclasses import fields

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.datasets import SceneSettings, write_digit_scenes

HELP = dict(
    num_train='training scenes',
    num_val='validation scenes',
    size='height and width in pixels',
    max_digits='digits per scene at most',
    seed='of everything random',
)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--out', default='data/digit_scenes', help='folder to make (default: %(default)s)'
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
    print(f'{out}: {"written" if written else "complete already"}')


if __name__ == '__main__':
    main()
