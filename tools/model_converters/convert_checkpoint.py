"""Convert a checkpoint of the authors' (github.com/mmaaz60/EdgeNeXt) to this project's classifier.

Examples:
    python tools/model_converters/convert_checkpoint.py edgenext_small.pth edgenext-small.pth
    python tools/model_converters/convert_checkpoint.py SRC DST --key model_ema
"""

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.files import write_checkpoint
from edgenext_mm.models.checkpoint import WRAPPERS, convert_official
from edgenext_mm.models.loading import read_checkpoint


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('src', help="path or URL of the authors' file")
    parser.add_argument('dst', help='file to write; replaced only once the new one is complete')
    parser.add_argument(
        '--key',
        help=f'entry with the weights (default: the first of {", ".join(WRAPPERS)} that is there)',
    )
    args = parser.parse_args()
    converted = convert_official(read_checkpoint(args.src), args.key)
    write_checkpoint(converted, args.dst)
    weights = converted['state_dict']
    print(f'{args.dst}: {converted["meta"]["arch"]}, {len(weights)} tensors')


if __name__ == '__main__':
    main()
