"""From a config and command line options to an mmengine runner, for any task."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as MMEngineRunner

from ..checkpoints.latest import check_resumable, find_latest
from ..checkpoints.loading import find_checkpoint
from ..datasets.bad_data import BadDataPolicy
from ..engine import Runner, unwrapped
from ..errors import UserError
from ..models.fit import check_fit
from .hardware import can_train_with_amp, distribute_on_cpu, without_amp
from .safeguards import (
    check_work_dir,
    guard_data,
    hooks_of,
    outlive_lost_figures,
    save_whole_checkpoints,
)


def merge_runner_args(config: Config, args: argparse.Namespace) -> None:
    """Applies the options that training and testing share.

    Raises:
        UserError: If the config has no model.
    """
    if 'model' not in config:
        raise UserError(
            f'{args.config} has no `model`. Inherit a config that has one with `_base_`, for '
            "instance 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py'."
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config.launcher = args.launcher
    # Priority: the command line, the config, the config's name.
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)


def merge_resume(config: Config, checkpoint: str | None) -> None:
    """Decides what a training starts from, when its ``work_dir`` is known.

    Args:
        config: Changed; a ``resume`` of its own is as good as the option.
        checkpoint: ``--resume``: None, ``auto`` for the latest one of the work folder, or which.

    Raises:
        UserError: If it is not there, or all that are there are damaged.
    """
    if checkpoint is None and config.get('resume'):
        checkpoint = config.get('load_from') or 'auto'
    if checkpoint == 'auto':
        checkpoint = find_latest(config.work_dir)
    elif checkpoint is not None:
        checkpoint = str(find_checkpoint(checkpoint))
        check_resumable(checkpoint)
    config.resume = checkpoint is not None
    if config.resume:
        config.load_from = checkpoint
    elif config.get('load_from'):
        config.load_from = str(find_checkpoint(config.load_from))


def build_runner(config: Config) -> MMEngineRunner:
    """The runner that the config asks for, with our safeguards.

    Raises:
        UserError: If the parts of its model do not fit together, ``bad_data`` or ``loss_watch`` is
            no policy, or nothing can be written to its ``work_dir``.
    """
    policy, hooks = BadDataPolicy.of(config), list(hooks_of(config))
    check_work_dir(config.work_dir)
    save_whole_checkpoints(config)
    for split in ('train', 'val', 'test'):
        _fit_workers(config.get(f'{split}_dataloader') or {})
    if config.get('launcher') == 'pytorch' and not torch.cuda.is_available():
        distribute_on_cpu(config)
    no_amp = not can_train_with_amp() and without_amp(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    check_fit(unwrapped(runner.model), config)
    for hook in hooks:
        runner.register_hook(hook)
    guard_data(runner, policy)
    outlive_lost_figures(runner)
    if no_amp:
        runner.logger.warning(
            'The config asks for automatic mixed precision, which needs a GPU; this machine has '
            f'none (device: {get_device()}). Training in full precision.'
        )
    return runner


def _fit_workers(loader: dict[str, Any]) -> None:
    """Takes settings of workers out of a loader without workers, which torch refuses."""
    if not loader.get('num_workers'):
        for name in ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context'):
            loader.pop(name, None)
