"""Adapts a config to a machine without a GPU."""

from __future__ import annotations

from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ..errors import UserError
from ..registry import type_name


def distribute_on_cpu(config: Config) -> None:
    """Starts the process group of a distributed run on CPUs.

    mmengine's ``init_dist`` selects a GPU whatever the backend is.

    Args:
        config: A full config. Its ``model_wrapper_cfg`` is set.
    """
    seconds = config.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    timeout = None if seconds is None else timedelta(seconds=seconds)
    torch.distributed.init_process_group('gloo', timeout=timeout)
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
    """Returns whether mmengine's mixed precision can train on this machine."""
    return get_device() not in ('cpu', 'mps')


def without_amp(config: Config) -> bool:
    """Removes mixed precision from a config.

    Args:
        config: A full config. Its ``optim_wrapper`` is changed.

    Returns:
        Whether the config asked for mixed precision.
    """
    wrapper = config.get('optim_wrapper') or {}
    if type_name(wrapper.get('type')) != 'AmpOptimWrapper':
        return False
    wrapper['type'] = 'OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    return True


def require_gpu_for_amp() -> None:
    """Checks that ``--amp`` can be used.

    Raises:
        UserError: If this machine has no accelerator.
    """
    if not can_train_with_amp():
        raise UserError(
            f'--amp needs a GPU, and this machine has none (device: {get_device()}). '
            'Train without it, or on a machine with a GPU.'
        )
