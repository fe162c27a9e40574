"""Converts the weights of an EdgeNeXt classifier between the published formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checkpoints.contents import shorten, unwrap, without_prefix
from ..checkpoints.key_maps import FORMATS, rename, to_ours
from ..errors import UserError
from . import ARCHS, EdgeNeXt
from .infer_arch import read_stages


def convert(
    checkpoint: Mapping[str, Any], target: str = 'ours', key: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Converts the weights of a variant of the paper from any known format to another.

    Args:
        checkpoint: Content of a checkpoint file: a classifier, or its backbone alone.
        target: One of :data:`~edgenext_mm.checkpoints.key_maps.FORMATS`. Default: ``'ours'``.
        key: Name of the entry to convert; see
            :func:`~edgenext_mm.checkpoints.contents.unwrap`. Default: chosen automatically.

    Returns:
        The name of the variant, and the content of the new file: a state dict for ``'official'``
        and ``'timm'``, a dict with ``state_dict`` for ``'ours'`` and ``'mmpretrain'``.

    Raises:
        UserError: If the weights are not exactly those of one of the variants.
    """
    weights = to_ours(without_prefix(unwrap(checkpoint, key)[1])[1])
    stages = read_stages(weights, 'backbone.')
    name = next((name for name, arch in ARCHS.items() if arch.stages == stages), None)
    if name is None:
        raise UserError(
            f'These are not the weights of an EdgeNeXt of the paper ({", ".join(ARCHS)}) in any '
            f'known format ({", ".join(FORMATS)}). First names: {shorten(weights)}.'
        )
    expected = {f'backbone.{k}' for k in EdgeNeXt(name, final_norm='auto').state_dict()}
    if any(k.startswith('head.') for k in weights):
        expected |= {'head.fc.weight', 'head.fc.bias'}
    missing, unexpected = sorted(expected - weights.keys()), sorted(weights.keys() - expected)
    if missing or unexpected:
        raise UserError(
            f'The weights of this {name} are not complete: missing {missing[:3]}, '
            f'unexpected {unexpected[:3]}.'
        )
    converted = rename(weights, 'ours', target)
    if target in ('official', 'timm'):
        return name, converted
    return name, dict(meta=dict(arch=name), state_dict=converted)
