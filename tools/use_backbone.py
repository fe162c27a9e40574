"""Put EdgeNeXt into a config of mmdet, mmseg, mmrotate or mmpretrain, in place of its backbone.

The new config inherits the other one. Channels, strides, normalisation, initial weights and the
optimizer are exchanged where they depend on the backbone; the file says what was decided.
docs/families.md lists the models that were tried.

Examples:
    python tools/use_backbone.py mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py --out fcos.py
    python tools/use_backbone.py mmseg::ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py \
        --arch xxsmall --out configs/ocrnet.py
    python tools/use_backbone.py my_detector.py --arch small --out mine.py --weights best.pth
    python tools/train.py mine.py
"""

import shlex

from edgenext_mm import ARCHS
from edgenext_mm.apis.backbone_exchange import use_backbone
from edgenext_mm.cli import make_parser, reports_errors


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='path of a config, or LIBRARY::NAME')
    parser.add_argument(
        '--arch', default='small', choices=[*ARCHS], help='variant of EdgeNeXt (default: small)'
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='the new config, a .py file')
    parser.add_argument(
        '--weights',
        default='auto',
        metavar='NAME',
        help='initial weights of the backbone: a name of the model zoo, a path or a URL, or none '
        'for random ones (default: auto, those of ImageNet-1K)',
    )
    parser.add_argument(
        '--keep-optimizer', action='store_true', help='keep SGD (default: AdamW takes its place)'
    )
    args = parser.parse_args()
    weights = None if args.weights == 'none' else args.weights
    exchange = use_backbone(args.config, args.out, args.arch, weights, args.keep_optimizer)
    print(*exchange.notes, sep='\n')
    print(f'\nThe config is {args.out}; train it with')
    print(f'    python tools/train.py {shlex.quote(args.out)}')


if __name__ == '__main__':
    main()
