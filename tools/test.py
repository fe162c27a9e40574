"""Test a trained model on the test data of a config.

Examples:
    python tools/test.py CONFIG work_dirs/NAME/epoch_30.pth
    python tools/test.py CONFIG CHECKPOINT --out results.json
    python tools/test.py CONFIG model.onnx      # written by tools/deployment/export.py
    bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""

import argparse

from mmengine.dist import is_main_process
from mmengine.fileio import dump

from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.testing import run_test
from edgenext_mm.checkpoints.finding import find_checkpoint
from edgenext_mm.cli import (
    add_config_options,
    add_runner_options,
    make_parser,
    merge_runner_args,
    reports_errors,
)
from edgenext_mm.config import load_config
from edgenext_mm.engine.first_failure import recorded
from edgenext_mm.runtime.formats import format_of


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    parser.add_argument('checkpoint', help='weights: path, URL, zoo name; or an exported file')
    add_runner_options(parser)
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics to this file')
    return parser.parse_args()


@reports_errors
@recorded  # torchrun reports the process that failed first
def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    merge_runner_args(config, args)
    if args.amp:
        config.test_cfg.fp16 = True
    if format_of(args.checkpoint):
        metrics = run_test(config, load_model(args.checkpoint))
    else:
        config.load_from = str(find_checkpoint(args.checkpoint))
        metrics = run_test(config)
    if args.out and is_main_process():
        dump(metrics, args.out)


if __name__ == '__main__':
    main()
