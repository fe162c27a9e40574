"""Run a model of any task on images.

Examples:
    python tools/infer.py edgenext-xxsmall_digits data/digits/val/7 --out work_dirs/pictures
    python tools/infer.py CONFIG photo.jpg https://example.org/bird.jpg --checkpoint best.pth
    python tools/infer.py CONFIG photos/ --checkpoint best.pth --json > results.json
    python tools/infer.py model.onnx photos/     # what tools/deployment/export.py wrote
"""

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.apis.images import list_images
from edgenext_mm.apis.inference import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.results import to_json, to_text
from edgenext_mm.visualization import plot_predictions


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'model', help='config file, name of a shipped config or zoo model, or exported file'
    )
    parser.add_argument('images', nargs='+', help='image files, folders or URLs')
    parser.add_argument(
        '--checkpoint',
        help="path or URL of the weights (default: the best or latest in the config's work folder)",
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write pictures to this folder: all results side by side, and each on its own '
        'where it is more than a class',
    )
    parser.add_argument('--json', action='store_true', help='print the results as JSON')
    parser.add_argument('--device', help='where to run, e.g. cpu or cuda:1 (default: a GPU if any)')
    parser.add_argument('--batch-size', type=int, default=1, help='default: %(default)s')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='leave out detected objects of lower scores (default: %(default)s)',
    )
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    images = list_images(args.images)
    with redirect_stdout(sys.stderr):  # libraries talk while they load; stdout is for results
        model = load_model(args.model, args.checkpoint, args.device)
        results = inference_model(
            model,
            images,
            batch_size=args.batch_size,
            score_thr=args.score_thr,
            progress=sys.stderr.isatty(),
        )
    if args.json:
        print(json.dumps([to_json(i, r) for i, r in zip(images, results, strict=True)], indent=2))
    else:
        print('\n'.join(to_text(i, r) for i, r in zip(images, results, strict=True)))
    if args.out:
        classes = model.dataset_meta.get('classes') or ()
        for path in plot_predictions(images, results, classes, args.out, Path(args.model).stem):
            print(f'picture: {path}', file=sys.stderr)


if __name__ == '__main__':
    main()
