"""Draw the ground truth of a config's data set after its pipeline.

Examples:
    python tools/browse_dataset.py configs/detection/gfl_edgenext-xxsmall_fpn_digits.py
    python tools/browse_dataset.py CONFIG --split val --count 100 --out work_dirs/look
"""

from itertools import islice
from pathlib import Path

from edgenext_mm.apis.ground_truth import iterate_truths
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.runtime.results import is_class
from edgenext_mm.visualization import picture_names, plot_grid, plot_result


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument(
        '--count', type=int, default=12, help='number of images (default: %(default)s)'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random transforms (default: %(default)s)'
    )
    parser.add_argument(
        '--out', metavar='DIR', help='folder for the pictures (default: work_dirs/NAME/browse)'
    )
    args = parser.parse_args()
    config_path = find_config(args.config)
    config = load_config(config_path, args.cfg_options)
    folder = Path(args.out or Path('work_dirs') / config_path.stem / 'browse')

    paths, images, truths = [], [], []
    for path, image, truth in islice(iterate_truths(config, args.split, args.seed), args.count):
        paths.append(path)
        images.append(image)
        truths.append(truth)
    overview = folder / f'{args.split}.png'
    plot_grid(images, truths, overview, title=f'{config_path.stem}: {args.split}')
    print(f'picture: {overview}')
    if not is_class(truths[0]):
        for name, image, truth in zip(picture_names(paths), images, truths, strict=True):
            plot_result(image, truth, folder / args.split / f'{name}.png')
        print(f'picture: {folder / args.split}')


if __name__ == '__main__':
    main()
