"""The learning rates of a config, checked before training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import UserError
from ..registry import type_name

#: Schedulers that lower a rate until their end, by the start of their names.
DECAYING = ('CosineAnnealing', 'Poly', 'Linear', 'Exponential', 'OneCycle')


#: Constructors of other libraries that decay by layer, and know no EdgeNeXt in a dense model.
_OTHER_LAYER_DECAYS = (
    'LearningRateDecayOptimizerConstructor',
    'LayerDecayOptimizerConstructor',
    'LearningRateDecayOptimWrapperConstructor',
)


def check_schedule(config: Config) -> None:
    """Checks the learning rates of a config: by layer, and over time.

    Raises:
        UserError: If a constructor is to decay them by layer that cannot do so for an EdgeNeXt.
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
            "model. Set it to 'edgenext_mm.LayerDecayOptimWrapperConstructor', with "
            'paramwise_cfg=dict(layer_decay_rate=0.8), for instance, in the place of `decay_rate`, '
            '`decay_type` and `num_layers`; docs/finetuning.md has an example.'
        )
    warn_of_short_schedule(config)


def warn_of_short_schedule(config: Config) -> None:
    """Warns if the learning rate has come to its end before the training has.

    That is what ``train_cfg.max_epochs``, raised alone, does to a schedule of a fixed length.
    """
    train_cfg = config.get('train_cfg') or {}
    by_epoch = 'max_epochs' in train_cfg
    length = train_cfg.get('max_epochs') if by_epoch else train_cfg.get('max_iters')
    if not length:
        return
    # Without the size of an epoch, one unit does not compare with the other.
    steps = [s for s in _schedulers(config) if s[1].get('by_epoch', True) == by_epoch]
    decaying = [(path, step, _end(step)) for path, step in steps if _decays(step)]
    if not decaying:
        return
    path, step, end = max(decaying, key=lambda item: item[2])
    followed = any(other.get('begin', 0) >= end for _, other in steps)
    if end >= length or followed:
        return
    unit, name = ('epoch', 'max_epochs') if by_epoch else ('iteration', 'max_iters')
    settings = [key for key in ('end', 'T_max', 'total_iters', 'total_steps') if key in step]
    if 'end' not in step and 'T_max' in step:
        then = f'a cosine of period {2 * step["T_max"]} rises again'
    else:
        then = 'the learning rate stays at its lowest value, with which little is learned'
    print_log(
        f'train_cfg.{name} is {length}, but the last schedule of the learning rate, '
        f'{type_name(step["type"])}, ends at {unit} {end:g}: from there {then}. Set '
        f'{" and ".join(f"{path}.{key}" for key in settings)} to match, for instance with '
        f'--cfg-options.',
        'current',
        logging.WARNING,
    )


def _schedulers(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    found = config.get('param_scheduler') or []
    if isinstance(found, dict) and 'type' not in found:  # of several optimisers
        for key, steps in found.items():
            yield from _numbered(f'param_scheduler.{key}', steps)
    else:
        yield from _numbered('param_scheduler', found)


def _numbered(path: str, steps: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(steps, dict):
        yield path, steps
    else:
        yield from ((f'{path}.{i}', s) for i, s in enumerate(steps) if isinstance(s, dict))


def _decays(step: dict[str, Any]) -> bool:
    name = type_name(step.get('type'))
    if name.endswith('Momentum') or not name.startswith(DECAYING):
        return False
    if name.startswith('Linear'):
        return step.get('end_factor', 1.0) < step.get('start_factor', 1 / 3)
    return True


def _end(step: dict[str, Any]) -> float:
    begin = step.get('begin', 0)
    lengths = [step[key] for key in ('T_max', 'total_iters', 'total_steps') if step.get(key)]
    return min([step.get('end') or math.inf, *(begin + length for length in lengths)])
