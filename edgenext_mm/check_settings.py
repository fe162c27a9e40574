"""Switches for the checks of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UserError

#: What each check compares. ``checks = dict(classes=False)`` in a config turns one off.
CHECKS = {
    'batches': 'batch sizes with the layers of the model',
    'channels': 'channels of the backbone with those of neck and heads',
    'classes': 'classes of the data sets with each other and with the heads',
    'data': 'files and annotations with what the config expects',
    'strides': "strides of the maps with those of the heads' anchors",
}


def is_checked(config: Mapping[str, Any], name: str) -> bool:
    """Whether a check is on. All are, unless ``checks`` in the config turns them off.

    Args:
        config: The config.
        name: A key of :data:`CHECKS`.

    Raises:
        UserError: If ``checks`` is not a dict with these keys.
    """
    chosen = config.get('checks') or {}
    if not isinstance(chosen, Mapping) or set(chosen) - set(CHECKS):
        raise UserError(
            f'`checks` must be a dict with True or False for any of {", ".join(CHECKS)}, but is '
            f'{chosen!r}. For example: `checks = dict(classes=False)`.'
        )
    return bool(chosen.get(name, True))
