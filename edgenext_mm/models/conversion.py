"""The weights of an EdgeNeXt in another format."""

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
    """Brings the weights of an EdgeNeXt of the paper from any format to another.

    Args:
        checkpoint: The content of a file: a classifier, or its backbone alone.
        target: One of :data:`~edgenext_mm.checkpoints.key_maps.FORMATS`. Default: ours.
        key: Where in the file the weights are; see
            :func:`~edgenext_mm.checkpoints.contents.unwrap`.

    Returns:
        The name of the arch, and the content of the new file: bare weights for the authors' format
        and timm's, weights under ``state_dict`` for ours and mmpretrain's.

    Raises:
        UserError: If it does not hold all weights, and no others, of one of the seven variants.
    """
    weights = to_ours(without_prefix(unwrap(checkpoint, key))[1])
    stages = read_stages(weights, 'backbone.')
    name = next((name for name, arch in ARCHS.items() if arch.stages == stages), None)
    if name is None:
        raise UserError(
            f'These are not the weights of an EdgeNeXt of the paper ({", ".join(ARCHS)}) in any '
            f'known format ({", ".join(FORMATS)}). First names: {shorten(weights)}.'
        )
    expected = _classifier_names(name)
    if not any(k.startswith('head.') for k in weights):
        expected = {k for k in expected if k.startswith('backbone.')}
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


def _classifier_names(arch: str) -> set[str]:
    backbone = EdgeNeXt(arch, final_norm='auto')
    names = {f'backbone.{name}' for name in backbone.state_dict()}
    return names | {'head.fc.weight', 'head.fc.bias'}
