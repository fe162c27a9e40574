"""Convert COCO's instance annotations to masks with the classes of PASCAL VOC.

The images are not copied. Existing masks are kept, so that an interrupted run can be continued.

Examples:
    python tools/dataset_converters/coco_to_voc.py
    python tools/dataset_converters/coco_to_voc.py ANNOTATIONS IMAGES OUT --min-pixels 1
"""

import sys

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.datasets.voc_masks import convert_coco_to_voc


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    paths = dict(
        annotations=('data/coco/annotations/instances_train2017.json', "COCO's instances_*.json"),
        images=('data/coco/train2017', 'folder of the images'),
        out=('data/coco_voc', 'folder for SegmentationClass/ and ImageSets/'),
    )
    for name, (default, what) in paths.items():
        parser.add_argument(name, nargs='?', default=default, help=f'{what} (default: %(default)s)')
    parser.add_argument(
        '--min-pixels',
        type=int,
        default=1000,
        metavar='N',
        help="skip images with fewer pixels of VOC's 20 object classes (default: %(default)s)",
    )
    args = parser.parse_args()
    done = convert_coco_to_voc(
        args.annotations, args.images, args.out, args.min_pixels, progress=sys.stderr.isatty()
    )
    print(
        f'{done.list_file}: {done.listed} images ({done.written} masks written, '
        f'{done.listed - done.written} existed); {done.too_small} skipped, with fewer than '
        f'{args.min_pixels} labelled pixels'
    )


if __name__ == '__main__':
    main()
