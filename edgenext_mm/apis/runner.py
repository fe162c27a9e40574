"""From a config and command line options to an mmengine runner, for any task."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..datasets.bad_data import BadDataPolicy, BadSampleList, guarded_dataset
from ..engine import LoadReportHook, LossWatchHook, unwrapped
from ..engine.bad_data_hook import BadDataHook
from ..errors import UserError
from ..models.fit import check_fit


def merge_runner_args(config: Config, args: argparse.Namespace) -> None:
    """Applies the options that training and testing share."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config.launcher = args.launcher
    # Priority: the command line, the config, the config's name.
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)


def build_runner(config: Config) -> Runner:
    """The runner that the config asks for.

    Beside the hooks of the config, it has the loss watch, with the arguments that ``loss_watch``
    in the config says; None turns it off.

    Raises:
        UserError: If the parts of its model do not fit together, or ``bad_data`` or ``loss_watch``
            is no policy.
    """
    policy = BadDataPolicy.of(config)
    if config.get('launcher') == 'pytorch' and not torch.cuda.is_available():
        _distribute_on_cpu(config)
    no_amp = not can_train_with_amp() and _without_amp(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    check_fit(unwrapped(runner.model))
    runner.register_hook(LoadReportHook())
    _guard_data(runner, policy)
    if config.get('loss_watch', {}) is not None:
        runner.register_hook(LossWatchHook(**config.get('loss_watch', {})))
    if no_amp:
        runner.logger.warning(
            'The config asks for automatic mixed precision, which needs a GPU; this machine has '
            f'none (device: {get_device()}). Training in full precision.'
        )
    return runner


def _guard_data(runner: Runner, policy: BadDataPolicy) -> None:
    """Lets data sets refuse bad samples. Only training skips them: a metric over other images
    would be another metric."""
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
            )
            setattr(runner, name, {**loader, 'dataset': dataset})
    if policy.skips:
        runner.register_hook(BadDataHook(skipped))


def _distribute_on_cpu(config: Config) -> None:
    """Several processes without a GPU: mmengine's own way selects one, whatever the backend."""
    torch.distributed.init_process_group('gloo')
    config.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=config.get('find_unused_parameters', False),
        ),
    )


def can_train_with_amp() -> bool:
    """Whether mmengine's mixed precision can train here."""
    return get_device() not in ('cpu', 'mps')


def _without_amp(config: Config) -> bool:
    """Takes mixed precision out of a config; returns whether it was there."""
    wrapper = config.get('optim_wrapper') or {}
    if wrapper.get('type') != 'AmpOptimWrapper':
        return False
    wrapper['type'] = 'OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    return True


def require_gpu_for_amp() -> None:
    """Refuses ``--amp`` where mmengine's mixed precision cannot train.

    Raises:
        UserError: If there is no accelerator.
    """
    if not can_train_with_amp():
        raise UserError(
            f'--amp needs a GPU, and this machine has none (device: {get_device()}). '
            'Train without it, or on a machine with a GPU.'
        )
