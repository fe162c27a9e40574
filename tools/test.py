"""Test a trained model on its data set.

Examples:
    python tools/test.py CONFIG work_dirs/NAME/epoch_30.pth
    python tools/test.py CONFIG CHECKPOINT --out results.json
    python tools/test.py CONFIG model.onnx      # what tools/deployment/export.py wrote
    bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""

import argparse

from mmengine.config import Config
from mmengine.fileio import dump

from edgenext_mm.apis.cli import (
    add_config_options,
    add_runner_options,
    load_config,
    make_parser,
    reports_errors,
)
from edgenext_mm.apis.data import check_data
from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.runner import build_runner, merge_runner_args, unwrapped
from edgenext_mm.checkpoints.loading import (
    check_weights,
    find_checkpoint,
    read_checkpoint,
    weights_of,
)
from edgenext_mm.deployment.formats import format_of


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument('checkpoint', help='weights: path, URL, zoo name; or an exported file')
    add_runner_options(parser)
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics to this file')
    return parser.parse_args()


def merge_args(config: Config, args: argparse.Namespace) -> None:
    merge_runner_args(config, args)
    if format_of(args.checkpoint):
        config.custom_hooks = []  # such as moving averages, which copy the model
    else:
        config.load_from = str(find_checkpoint(args.checkpoint))
    if args.amp:
        config.test_cfg.fp16 = True


@reports_errors
def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    merge_args(config, args)
    check_data(config, 'test')
    runner = build_runner(config)
    if format_of(args.checkpoint):
        runner.model = load_model(args.checkpoint)
    else:
        # The runner itself would only warn of weights that do not fit.
        model = unwrapped(runner.model)
        check_weights(model, weights_of(read_checkpoint(config.load_from), model), config.load_from)
    metrics = runner.test()
    if args.out:
        dump(metrics, args.out)


if __name__ == '__main__':
    main()
