"""Checks the learning rate schedule of a config."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import UserError
from ..registry import type_name

#: Prefixes of the names of schedulers that decrease a learning rate.
_DECREASING = ('CosineAnnealing', 'Poly', 'Linear', 'Exponential', 'OneCycle')
#: Layer decay of other libraries, which does not know EdgeNeXt in dense models.
_OTHER_LAYER_DECAYS = (
    'LearningRateDecayOptimizerConstructor',
    'LayerDecayOptimizerConstructor',
    'LearningRateDecayOptimWrapperConstructor',
)


def check_schedule(config: Config) -> None:
    """Checks the layer decay of a config, and warns if a schedule ends before the training does.

    Args:
        config: A full config.

    Raises:
        UserError: If the optimizer constructor cannot apply layer decay to EdgeNeXt.
    """
    constructor = type_name((config.get('optim_wrapper') or {}).get('constructor', ''))
    backbone = config.model.get('backbone') or {}
    classifier = constructor == _OTHER_LAYER_DECAYS[-1] and 'head' in config.model
    if (
        constructor in _OTHER_LAYER_DECAYS
        and type_name(backbone.get('type', '')) == 'EdgeNeXt'
        and not classifier
    ):
        raise UserError(
            f'optim_wrapper.constructor {constructor} does not know the layers of EdgeNeXt in this '
            "model. Set it to 'edgenext_mm.LayerDecayOptimWrapperConstructor', and for instance "
            'paramwise_cfg=dict(layer_decay_rate=0.8) instead of `decay_rate`, `decay_type` and '
            '`num_layers`; docs/finetuning.md has an example.'
        )
    _warn_of_short_schedule(config)


def _warn_of_short_schedule(config: Config) -> None:
    """Warns if the learning rate reaches its end early, as when only ``max_epochs`` is raised."""
    train_cfg = config.get('train_cfg') or {}
    by_epoch = 'max_epochs' in train_cfg
    unit, name = ('epoch', 'max_epochs') if by_epoch else ('iteration', 'max_iters')
    length = train_cfg.get(name)
    # Epochs cannot be compared with iterations without knowing the size of an epoch.
    steps = [s for s in _schedulers(config) if s[1].get('by_epoch', True) == by_epoch]
    decreasing = [(path, step, _end(step)) for path, step in steps if _decreases(step)]
    if not length or not decreasing:
        return
    path, step, end = max(decreasing, key=lambda item: item[2])
    followed = any(other.get('begin', 0) >= end for _, other in steps)
    if end >= length or followed:
        return
    settings = [key for key in ('end', 'T_max', 'total_iters', 'total_steps') if key in step]
    if 'end' not in step and 'T_max' in step:
        then = f'a cosine of period {2 * step["T_max"]} rises again'
    else:
        then = 'the learning rate stays at its lowest value, at which the model learns little'
    print_log(
        f'train_cfg.{name} is {length}, but the last schedule of the learning rate, '
        f'{type_name(step["type"])}, ends at {unit} {end:g}: from there {then}. Set '
        f'{" and ".join(f"{path}.{key}" for key in settings)} to match, for instance with '
        f'--cfg-options.',
        'current',
        logging.WARNING,
    )


def _schedulers(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the path and the content of each scheduler in a config."""
    found: Any = config.get('param_scheduler') or []
    parts = {'param_scheduler': found}
    if isinstance(found, dict) and 'type' not in found:  # one entry per optimizer
        parts = {f'param_scheduler.{name}': steps for name, steps in found.items()}
    for path, steps in parts.items():
        if isinstance(steps, dict):
            yield path, steps
        else:
            yield from ((f'{path}.{i}', s) for i, s in enumerate(steps) if isinstance(s, dict))


def _decreases(step: dict[str, Any]) -> bool:
    name = type_name(step.get('type'))
    if name.endswith('Momentum') or not name.startswith(_DECREASING):
        return False
    if name.startswith('Linear'):
        return step.get('end_factor', 1.0) < step.get('start_factor', 1 / 3)
    return True


def _end(step: dict[str, Any]) -> float:
    begin = step.get('begin', 0)
    lengths = [step[key] for key in ('T_max', 'total_iters', 'total_steps') if step.get(key)]
    return min([step.get('end') or math.inf, *(begin + length for length in lengths)])
