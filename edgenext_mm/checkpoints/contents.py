"""Finds the weights in the content of a checkpoint file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError
from .key_maps import find_prefixes

#: Names of the entries with weights in files of common training codes, in order of preference.
#: Averages come first, because published accuracies are those of the average.
WRAPPERS = (
    *('state_dict_ema', 'ema_state_dict', 'ema', 'params_ema', 'model_ema'),
    *('model', 'state_dict', 'model_state_dict', 'net', 'params', 'weights'),
)
_AVERAGE = re.compile(r'(?:^|[._])(?:ema|swa|averaged?|teacher)(?:[._]|$)')


def unwrap(checkpoint: Mapping[str, Any], key: str | None = None) -> tuple[str, dict[str, Tensor]]:
    """Finds the state dict in the content of a checkpoint file.

    Args:
        checkpoint: A state dict, or a dict with one or more state dicts at any depth.
        key: Name of the entry, or prefix of the weights such as ``student``. Default: a moving
            average, or else the first of :data:`WRAPPERS`, or else the one that :func:`choose`
            returns.

    Returns:
        The name of the entry, '' for the checkpoint itself, and the state dict.

    Raises:
        UserError: If there is no state dict, no such entry, or no preferred one.
    """
    found = dict(_find_state_dicts(checkpoint))
    if key is not None:
        found = _select(found, key)
        if not found:
            raise UserError(
                f'The checkpoint has no entry {key!r} with weights. It has: {shorten(checkpoint)}.'
            )
    elif 'state_dict' in found and 'steps' in found.get('ema_state_dict', {}):
        del found['ema_state_dict']  # mmengine's EMAHook keeps the average in `state_dict`
    if not found:
        raise UserError(
            'The checkpoint holds no state dict: expected tensors by name, alone or in one of '
            f'{", ".join(WRAPPERS)}; got {shorten(checkpoint)}.'
        )
    ranks = {name: rank for name in found if (rank := _rank(name)) is not None}
    name = min(ranks, key=lambda name: ranks[name]) if ranks else choose(found)
    return name, _remove_wrappers(found[name])


def _select(found: Mapping[str, Mapping[str, Tensor]], key: str) -> dict[str, Mapping[str, Tensor]]:
    """Returns the entries with a name, or else the weights with this prefix in an entry."""
    entries = {name: found[name] for name in found if f'{name}.'.startswith(f'{key}.')}
    if entries:
        return entries
    parts = [part for w in found.values() if (part := _remove_prefix(w, f'{key}.'))]
    return {key: parts[0]} if parts else {}


def _rank(name: str) -> tuple[bool, int] | None:
    """Returns a sort key for an entry of a checkpoint, or None if it is not a common one."""
    entry = name.partition('.')[0]
    is_average = bool(_AVERAGE.search(entry)) and entry != 'teacher'
    if not is_average and entry not in WRAPPERS:
        return None
    return not is_average, WRAPPERS.index(entry) if entry in WRAPPERS else len(WRAPPERS)


def choose(candidates: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Chooses from several state dicts: an average of another one, or else the ``student``.

    A ``teacher`` counts as average of the ``student`` if its tensors have the same shapes.

    Args:
        candidates: One or more state dicts by name.

    Returns:
        The name of the chosen state dict.

    Raises:
        UserError: If none is preferred.
    """
    names = list(candidates)
    if len(names) == 1:
        return names[0]
    shapes = {k: sorted(tuple(t.shape) for t in v.values()) for k, v in candidates.items()}
    averages = [n for n in names if _AVERAGE.search(n)]
    students = [n for n in names if 'student' in re.split(r'[._]', n)]
    for name in averages:
        if any(shapes[name] == shapes[other] for other in names if other not in averages):
            return name
    if len(students) == 1:
        return students[0]
    raise UserError(
        f'The checkpoint holds several sets of weights: {", ".join(names)}. Write one of them to a '
        'file with `python tools/model_converters/convert_checkpoint.py SRC DST --key NAME`, and '
        'load that file.'
    )


def _find_state_dicts(content: Any, name: str = '') -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        if any(v.is_floating_point() for v in content.values()):  # not states of random generators
            yield name, content
        return
    for key, value in content.items():
        if isinstance(key, str):  # not the numbered states of an optimizer
            yield from _find_state_dicts(value, f'{name}.{key}' if name else key)


def _remove_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes what DistributedDataParallel, torch.compile and moving averages add to a model.

    The averages of torch and mmengine add ``module.`` and a counter of their updates. The backbone
    can have been wrapped alone.
    """
    counters = [name for name in weights if name in ('n_averaged', 'steps')]
    if not all(name in counters or name.startswith('module.') for name in weights):
        counters = []
    return {_remove_wrapper(k): v for k, v in weights.items() if k not in counters}


def _remove_wrapper(name: str) -> str:
    name = re.sub(r'^(?:module\.)+', '', re.sub(r'(?:^|(?<=\.))_orig_mod\.', '', name))
    return re.sub(r'\bbackbone\.(?:module\.)+', 'backbone.', name)


def _remove_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def without_prefix(weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Removes the prefix that a training code added to the names of an EdgeNeXt model.

    Args:
        weights: State dict with names such as ``model.backbone.stages...`` and ``model.head...``,
            or ``student.stages...`` and ``teacher.stages...``.

    Returns:
        The prefix, such as ``model.``, and the weights with this prefix. '' and all weights if
        there is no prefix or no EdgeNeXt.

    Raises:
        UserError: If there are several models and none is preferred; see :func:`choose`.
    """
    found = {prefix: _remove_prefix(weights, prefix) for prefix in find_prefixes(weights)}
    if '' in found or not found:
        return '', dict(weights)
    prefix = choose(found)
    return prefix, _remove_wrappers(found[prefix])


def shorten(names: Iterable[Any], count: int = 5) -> str:
    """Joins the first names for a message, or returns ``'nothing'`` if there are none."""
    names = [str(name) for name in names]
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count] or ['nothing']) + more
