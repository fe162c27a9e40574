"""What every training of ours has beside the hooks of its config; see docs/training.md."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checks import is_checked
from ..datasets.bad_data import BadDataPolicy, BadSampleList, guarded_dataset
from ..engine import (
    BadDataHook,
    BatchCheckHook,
    ExactResumeHook,
    HistoryHook,
    InterruptionHook,
    LoadReportHook,
    LossWatchHook,
    MissedValidationHook,
)
from ..errors import UserError
from ..registry import type_name
from .data import ignored_value


def hooks_of(config: Config) -> Iterator[Hook]:
    """The hooks that every runner gets.

    Raises:
        UserError: If ``loss_watch`` is no policy.
    """
    yield LoadReportHook()
    yield ExactResumeHook()
    yield InterruptionHook()
    if is_checked(config, 'batches'):
        yield BatchCheckHook()
    yield MissedValidationHook()
    yield HistoryHook()
    if config.get('loss_watch', {}) is not None:
        yield LossWatchHook(**config.get('loss_watch', {}))


def check_work_dir(folder: str) -> None:
    """Makes a work folder.

    Raises:
        UserError: If nothing can be written to it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'Nothing can be written to the work folder {folder} ({error}). Give another one with '
            '--work-dir.'
        ) from error


def save_whole_checkpoints(config: Config) -> None:
    """Puts our hook in the place of mmengine's, whose arguments it takes."""
    hooks = config.setdefault('default_hooks', {})
    hook = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
    if hook is not None and type_name(hook.get('type')) == 'CheckpointHook':
        hook['type'] = 'edgenext_mm.WholeCheckpointHook'


def guard_data(runner: Runner, policy: BadDataPolicy) -> None:
    """Lets data sets refuse bad samples. Only training skips them: a metric over other images
    would be another metric."""
    if not policy.checks:
        return
    skipped = BadSampleList(Path(runner.log_dir, 'bad_samples.jsonl'))
    for split in ('train', 'val', 'test'):
        name = f'_{split}_dataloader'  # a config, until the loop is built
        loader = getattr(runner, name)
        if isinstance(loader, dict):
            dataset = dict(
                type=guarded_dataset,
                dataset=loader['dataset'],
                policy=policy if split == 'train' else BadDataPolicy(),
                skipped=skipped,
                ignored=ignored_value(runner.cfg),
            )
            setattr(runner, name, {**loader, 'dataset': dataset})
    if policy.skips:
        runner.register_hook(BadDataHook(skipped))


def outlive_lost_figures(runner: Runner) -> None:
    """On a full disk, logged figures are lost; mmengine would end the training."""
    write = runner.visualizer.add_scalars

    @functools.wraps(write)
    def add_scalars(*args: Any, **kwargs: Any) -> None:
        try:
            write(*args, **kwargs)
        except OSError as error:
            runner.logger.error(f'Logged figures are lost: {error}.')

    runner.visualizer.add_scalars = add_scalars
