"""From a config and command line options to an mmengine runner, for any task."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as MMEngineRunner

from ..checkpoints.finding import find_checkpoint
from ..checkpoints.latest import check_resumable, find_latest
from ..engine import Runner
from ..errors import UserError


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
    """The runner that a config asks for by ``runner_type``, else ours.

    Raises:
        UserError: As :meth:`~edgenext_mm.engine.Runner.from_cfg`.
    """
    return RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
