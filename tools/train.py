"""Train a model of any task.

Examples:
    python tools/train.py configs/classification/edgenext-xxsmall_digits.py
    python tools/train.py CONFIG --work-dir work_dirs/mine --resume
    python tools/train.py CONFIG --amp --auto-scale-lr --cfg-options train_dataloader.batch_size=64
    python tools/train.py CONFIG --cfg-options bad_data.policy=skip
    python tools/train.py CONFIG --find-lr    # try learning rates, without training
    python tools/train.py CONFIG --qat        # afterwards: fine-tune for INT8
    bash tools/dist_train.sh CONFIG 8

On SIGTERM or SIGUSR1 it saves a checkpoint and exits with status 75. Use --resume to continue.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from edgenext_mm.checkpoints.latest import merge_resume
from edgenext_mm.cli import (
    add_config_options,
    add_runner_options,
    make_parser,
    merge_runner_args,
    reports_errors,
)
from edgenext_mm.config import load_config
from edgenext_mm.datasets.bad_data import BadDataPolicy
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.engine.auto_batch import find_batch_size
from edgenext_mm.engine.first_failure import recorded
from edgenext_mm.engine.hardware import require_gpu_for_amp
from edgenext_mm.engine.lr_finder import find_lr, write_json
from edgenext_mm.engine.qat import merge_qat
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.engine.schedule import check_schedule
from edgenext_mm.engine.work_folder import warn_of_earlier_training, warn_of_other_training
from edgenext_mm.visualization import plot_lr_finder


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_options(parser)
    add_runner_options(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint (default: the latest one in the work folder, if any)',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="multiply the learning rate by the batch size divided by the config's base_batch_size",
    )
    parser.add_argument(
        '--find-lr',
        action='store_true',
        help='train 100 steps with a growing learning rate, and print the one to use; writes '
        'lr_finder.png to the work folder',
    )
    parser.add_argument(
        '--auto-batch',
        action='store_true',
        help='use the largest batch size that fits into the memory of the GPU, with the learning '
        'rate scaled to it',
    )
    parser.add_argument(
        '--qat',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='quantization-aware fine-tuning of a trained model (default: the best checkpoint in '
        'the work folder), a tenth as long, into WORK_DIR_qat',
    )
    return parser.parse_args()


def merge_args(config: Config, args: argparse.Namespace) -> None:
    if args.qat is not None:
        merge_qat(config, args.qat)
    merge_runner_args(config, args)
    if args.amp:
        require_gpu_for_amp()
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        config.auto_scale_lr.enable = True
    merge_resume(config, args.resume)


def show_learning_rates(config: Config) -> None:
    found = find_lr(config)
    if not is_main_process():
        return
    folder = Path(config.work_dir)
    write_json(found, folder / 'lr_finder.json')
    plot_lr_finder(*found, folder / 'lr_finder.png')
    print(f'picture: {folder / "lr_finder.png"}')
    if found.suggestion is None:
        print(
            'The loss fell by less than 5%, so no rate is better than another. Keep that of the '
            'config, or start from pretrained weights.'
        )
        return
    print('A tenth of the rate with the lowest loss:')
    print(f'    optim_wrapper = dict(optimizer=dict(lr={found.suggestion:g}))')


@reports_errors
@recorded  # torchrun reports the process that failed first
def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    merge_args(config, args)
    check_data(config, 'train', samples=BadDataPolicy.of(config).policy == 'stop')
    check_data(config, 'val')
    check_schedule(config)
    if args.auto_batch:
        config.train_dataloader.batch_size = find_batch_size(config)
        config.auto_scale_lr.enable = True
    if args.find_lr:
        show_learning_rates(config)
        return
    warn_of_other_training(config)
    warn_of_earlier_training(config)
    build_runner(config).train()


if __name__ == '__main__':
    main()
