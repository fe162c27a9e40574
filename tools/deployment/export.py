r"""Export a trained model of any task to a file for an edge runtime.

The file contains the deploy form of the network and everything that a runner needs: classes, sizes,
mean and standard deviation, the config. It is compared with the model on images, and only kept if
both agree.

Examples:
    python tools/deployment/export.py CONFIG best.pth --format onnx --out model.onnx
    python tools/deployment/export.py CONFIG --format openvino --out model.xml \
        --dynamic batch,height,width
    python tools/deployment/export.py CONFIG best.pth --format openvino --out small_int8.xml \
        --precision int8 --calib data/train --evaluate
    python tools/deployment/export.py DETECTOR best.pth --format onnx --out boxes.onnx \
        --include preprocess,decode,nms
    python tools/deployment/export.py CONFIG best.pth --format onnx --out small.onnx \
        --precision int8 --calib data/train --sensitivity --evaluate
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from edgenext_mm.apis.model import load_model, published_weights
from edgenext_mm.apis.testing import metrics_of
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import FORMATS, export
from edgenext_mm.deployment.calibration import image_channels, images_in, normalised_images
from edgenext_mm.deployment.exporter import default_parts, prepare
from edgenext_mm.deployment.form import LAYOUTS
from edgenext_mm.deployment.heads import to_pixels
from edgenext_mm.deployment.int8 import KINDS, Int8Settings
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.formats import PRECISIONS, RANGES, SCHEMES, with_ending


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument(
        'checkpoint', nargs='?', help='path, URL or zoo name of the weights (default: as infer.py)'
    )
    parser.add_argument('--format', required=True, choices=FORMATS, help='format of the file')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), help="input (default: the config's size)"
    )
    parser.add_argument(
        '--dynamic', default='', metavar='DIMS', help='dimensions that vary: batch,height,width'
    )
    parser.add_argument(
        '--precision', default='fp32', help=f'{", ".join(PRECISIONS)} (default: fp32)'
    )
    parser.add_argument('--calib', metavar='DIR', help='images to calibrate INT8 on')
    parser.add_argument(
        '--calib-images', type=int, default=128, help='number of them (default: %(default)s)'
    )
    parser.add_argument(
        '--int8-scheme',
        choices=SCHEMES,
        help='INT8 ranges; TensorRT only supports symmetric (default: symmetric)',
    )
    parser.add_argument(
        '--ranges',
        choices=RANGES,
        default='minmax',
        help='how INT8 ranges follow from activations (default: %(default)s, all values)',
    )
    parser.add_argument(
        '--keep-float',
        default='',
        metavar='KINDS',
        help=f'operators that stay in floating point in INT8 files: {", ".join(KINDS)}',
    )
    parser.add_argument(
        '--sensitivity',
        action='store_true',
        help='do not keep a file, but print what INT8 costs for each kind of operator',
    )
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        help='layout of the deploy form (default: that of the format)',
    )
    parser.add_argument(
        '--include',
        metavar='PARTS',
        help='what the file holds besides the network: preprocess, decode, nms or none '
        '(default: decode for detectors)',
    )
    parser.add_argument(
        '--verify',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='compare the file with the model (default: yes)',
    )
    parser.add_argument(
        '--images', metavar='DIR', help='images to compare on (default: --calib, or photographs)'
    )
    parser.add_argument(
        '--bound', type=float, help='largest accepted relative deviation (default: 1e-4 for fp32)'
    )
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help="test the model and the file on the config's test data and print both metrics",
    )
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    config = load_config(find_config(args.config), args.cfg_options)
    model = load_model(config, args.checkpoint or published_weights(args.config), 'cpu')
    shape = tuple(args.shape or input_shape(config))
    dynamic = tuple(filter(None, args.dynamic.split(',')))
    include = parts_of(args.include, model, args.precision)
    calibration, images = [], []
    if args.calib:
        sources = images_in(args.calib, args.calib_images)
        calibration = list(normalised_images(model, sources, shape, dynamic))
    if args.verify:
        sources = images_in(args.images or args.calib, 8, image_channels(model))
        images = list(normalised_images(model, sources, shape, dynamic))
    keep_float = tuple(filter(None, args.keep_float.split(',')))
    options = dict(
        file_format=args.format,
        shape=shape,
        dynamic=dynamic,
        precision=args.precision,
        include=include,
        calibration=calibration,
        images=images,
        int8=Int8Settings(args.int8_scheme, args.ranges, keep_float),
        layout=args.layout,
    )
    if args.sensitivity:
        print_sensitivity(config, model, options, args.evaluate)
        return
    deviations = export(model, args.out, bound=args.bound, **options)
    path = with_ending(args.out, args.format)
    size = FORMATS[args.format].size(path) / 2**20
    print(f'{path}: {size:.1f} MiB, {args.precision}, {shape[0]}x{shape[1]}')
    for deviation in deviations:
        print(
            f'  {deviation.output}: deviation {deviation.absolute:.2e} '
            f'({deviation.relative:.2e} of the largest value) on {len(images)} images'
        )
    keeps_ratio = any(step.get('keep_ratio') for step in config.test_dataloader.dataset.pipeline)
    if keeps_ratio and not {'height', 'width'} <= set(dynamic):
        print(
            f'  note: the test pipeline keeps the aspect ratio, so smaller images are padded to '
            f'{shape[0]}x{shape[1]}. Their results differ from those without padding, because '
            'attention sees the complete input. --dynamic height,width avoids padding.'
        )
    if args.evaluate:
        print(compare_metrics(config, model, path))


def print_sensitivity(
    config: Config, model: nn.Module, options: dict[str, Any], evaluate: bool
) -> None:
    """Prints a table of the kinds of operators, line by line, because it takes minutes."""
    if options['file_format'] != 'onnx' or options['precision'] != 'int8' or not options['images']:
        raise UserError('--sensitivity needs --format onnx, --precision int8 and --verify.')
    if 'nms' in options['include']:
        raise UserError('--sensitivity compares all outputs: use --include decode, without nms.')
    from edgenext_mm.deployment.sensitivity import measure_sensitivity

    _, content = prepare(model, **options)
    inputs = options['images']
    if 'preprocess' in content.metadata.include:
        inputs = [to_pixels(image, content.metadata.preprocessing) for image in inputs]
    print('INT8         operators     MiB  deviation   time  metrics')
    test = partial(metrics_of, config) if evaluate else None
    for cost in measure_sensitivity(content, inputs, test):
        metrics = '  '.join(f'{name}: {value:.4f}' for name, value in cost.metrics.items())
        print(
            f'{cost.kind:12} {cost.operators:9} {cost.size / 2**20:7.2f} {cost.deviation:10.4f} '
            f'{cost.time:6.2f}  {metrics}',
            flush=True,
        )


def parts_of(given: str | None, model: nn.Module, precision: str) -> tuple[str, ...]:
    """Returns what the file holds besides the network; by default, detectors decode boxes."""
    if given is not None:
        return () if given == 'none' else tuple(filter(None, given.split(',')))
    if precision == 'bf16':
        return ()
    try:
        return default_parts(model)
    except UserError as error:
        print(f'note: {error}')
        return ()


def compare_metrics(config: Config, model: nn.Module, path: Path) -> str:
    """Returns the metrics of the model and of the file, side by side."""
    before, after = metrics_of(config, model), metrics_of(config, path)
    return '\n'.join(
        f'  {name}: {before[name]:.4f} before, {after[name]:.4f} after' for name in before
    )


if __name__ == '__main__':
    main()
