"""Where the weights are within what a file holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError
from .key_maps import find_prefixes

#: Where training codes keep the weights in a file, best first: they report the accuracy of the
#: moving average where there is one.
WRAPPERS = (
    *('state_dict_ema', 'ema_state_dict', 'ema', 'params_ema', 'model_ema'),
    *('model', 'state_dict', 'model_state_dict', 'net', 'params', 'weights'),
)
_AVERAGE = re.compile(r'(?:^|[._])(?:ema|swa|averaged?|teacher)(?:[._]|$)')


def unwrap(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a loaded file.

    Args:
        checkpoint: A bare state dict, or a dict that holds one or several.
        key: The entry to take, of any name, or what the names of its weights start with, such as
            ``student``. Default: an average, else the first of :data:`WRAPPERS`, else as
            :func:`choose`.

    Raises:
        UserError: If there is no such entry, what is there is no state dict, or the choice is not
            clear.
    """
    return unwrap_named(checkpoint, key)[1]


def unwrap_named(
    checkpoint: Mapping[str, Any], key: str | None = None
) -> tuple[str, dict[str, Tensor]]:
    """As :func:`unwrap`, with the name of the entry in front, or '' for a bare state dict."""
    found = dict(_find_weights(checkpoint))
    if key is not None:
        named = {name: found[name] for name in found if f'{name}.'.startswith(f'{key}.')}
        parts = [part for weights in found.values() if (part := _under(weights, f'{key}.'))]
        found = named or dict.fromkeys([key] * bool(parts), parts[0] if parts else {})
        if not found:
            raise UserError(
                f'The checkpoint has no entry {key!r} with weights. It holds: '
                f'{shorten(checkpoint)}.'
            )
    elif 'state_dict' in found and 'steps' in found.get('ema_state_dict', {}):
        del found['ema_state_dict']  # where mmengine's EMAHook keeps what `state_dict` averages
    if not found:
        entries = (checkpoint.get(name) for name in WRAPPERS)
        held = next(
            (entry for entry in entries if entry and isinstance(entry, Mapping)), checkpoint
        )
        raise UserError(
            'The checkpoint holds no state dict: expected tensors by name, bare or under one of '
            f'{", ".join(WRAPPERS)}; got {shorten(held)}.'
        )
    kinds = {name: name.partition('.')[0] for name in found}
    known = [name for kind in WRAPPERS for name in found if kinds[name] == kind]
    averages = [
        name
        for name in (*known, *found)
        if _AVERAGE.search(kinds[name]) and kinds[name] != 'teacher'
    ]
    ranked = averages or known
    name = ranked[0] if ranked else choose(found)
    return name, {_without_wrappers(k): v for k, v in found[name].items()}


def choose(candidates: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The name of the weights to take: an average of others, else the ``student``.

    A ``teacher`` is the average of the ``student`` if its tensors are of the same shapes, else
    another model.

    Args:
        candidates: Weights by name, at least one.

    Raises:
        UserError: If the choice is not clear.
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


def _find_weights(content: Any, name: str = '') -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """All state dicts in a file, by their place."""
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        if any(tensor.is_floating_point() for tensor in content.values()):  # not random states
            yield name, content
        return
    for key, value in content.items():
        if isinstance(key, str):  # the states of an optimiser go by number
            yield from _find_weights(value, f'{name}.{key}' if name else key)


def _without_wrappers(name: str) -> str:
    """Without what DistributedDataParallel and torch.compile put before each name."""
    return re.sub(r'^(?:module\.|_orig_mod\.)+', '', name)


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def without_prefix(weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The weights of a model that holds an EdgeNeXt, without what a training code put before them.

    Args:
        weights: Such as ``model.backbone.stages...`` and ``model.head...``, or
            ``student.stages...`` and ``teacher.stages...``.

    Returns:
        The prefix that was removed, ``model.`` or ``teacher.`` here, and the weights under it; ''
        and all weights where there is none, or no EdgeNeXt.

    Raises:
        UserError: If several models are there, and the choice is not clear; see :func:`choose`.
    """
    found = {prefix: _under(weights, prefix) for prefix in find_prefixes(weights)}
    if '' in found or not found:
        return '', dict(weights)
    prefix = choose(found)
    return prefix, {_without_wrappers(k): v for k, v in found[prefix].items()}


def shorten(names: Iterable[Any], count: int = 5) -> str:
    """Joins the first names for a message, or returns ``'nothing'`` if there are none."""
    names = [str(name) for name in names]
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count] or ['nothing']) + more
