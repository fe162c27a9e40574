"""Warm-ups that are too short for mmengine's schedulers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..registry import type_name


def without_short_warmups(schedulers: Sequence[Any], epoch_length: int) -> list[Any]:
    """Removes warm-ups of less than two steps.

    mmengine's ``LinearLR`` reaches its last factor in its last step. With one step, the learning
    rate keeps ``start_factor`` for the complete training; without a step, mmengine raises an error.

    Args:
        schedulers: Configs of schedulers, or schedulers.
        epoch_length: Number of steps in an epoch.
    """
    return [
        scheduler
        for scheduler in schedulers
        if not isinstance(scheduler, Mapping) or _is_possible(scheduler, epoch_length)
    ]


def _is_possible(scheduler: Mapping[str, Any], epoch_length: int) -> bool:
    if type_name(scheduler['type']) != 'LinearLR' or scheduler.get('end') is None:
        return True
    steps = [scheduler.get('begin', 0), scheduler['end']]
    if scheduler.get('by_epoch', True):
        if not scheduler.get('convert_to_iter_based'):
            return True  # its steps are epochs
        steps = [int(epochs * epoch_length) for epochs in steps]
    return steps[1] - steps[0] >= 2
