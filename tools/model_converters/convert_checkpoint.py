"""Convert an EdgeNeXt checkpoint from one published format to another.

Training, testing and inference take all formats as they are; this is for other programs. The file
is named after its content: DST `edgenext-small.pth` becomes `edgenext-small-1a2b3c4d.pth`.

Examples:
    python tools/model_converters/convert_checkpoint.py edgenext_small.pth edgenext-small.pth
    python tools/model_converters/convert_checkpoint.py ours.pth for_timm.safetensors --to timm
    python tools/model_converters/convert_checkpoint.py SRC DST --key model_ema
"""

from edgenext_mm.checkpoints.contents import WRAPPERS
from edgenext_mm.checkpoints.finding import read_checkpoint
from edgenext_mm.checkpoints.key_maps import FORMATS
from edgenext_mm.checkpoints.writing import write_hashed_checkpoint
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.models.conversion import convert


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('src', help='path or URL; the format is recognised')
    parser.add_argument('dst', help='.pth or .safetensors file to write, before its hash is added')
    parser.add_argument('--to', choices=FORMATS, default='ours', help='(default: ours)')
    parser.add_argument(
        '--key',
        help='entry with the weights, or what their names start with (default: an average, else '
        f'the first of {", ".join(WRAPPERS)} that is there)',
    )
    args = parser.parse_args()
    arch, content = convert(read_checkpoint(args.src), args.to, args.key)
    path = write_hashed_checkpoint(content, args.dst)
    print(f'{path}: {arch}, {len(content.get("state_dict", content))} tensors, format {args.to}')


if __name__ == '__main__':
    main()
