"""Which checks of a config are switched on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UserError

#: What each check compares. A config switches one off with ``checks = dict(classes=False)``.
CHECKS = {
    'batches': 'batch sizes with the layers of the model',
    'channels': 'channels of the backbone with those of neck and heads',
    'classes': 'classes of the data sets with each other and with the heads',
    'data': 'files and annotations with what the config expects',
    'strides': "strides of the maps with those of the heads' anchors",
}


def is_checked(config: Mapping[str, Any], name: str) -> bool:
    """Whether a config wants a check; all are on unless ``checks`` says otherwise.

    Args:
        config: A full config.
        name: A key of :data:`CHECKS`.

    Raises:
        UserError: If ``checks`` is not a dict of such keys.
    """
    chosen = config.get('checks') or {}
    if not isinstance(chosen, Mapping) or set(chosen) - set(CHECKS):
        raise UserError(
            f'`checks` is {chosen!r}. It takes a dict with True or False for any of '
            f'{", ".join(CHECKS)}, such as `checks = dict(classes=False)`.'
        )
    return bool(chosen.get(name, True))
