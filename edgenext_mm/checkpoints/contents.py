"""What a file of weights holds, and the same weights in another format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..models.backbones import ARCHS, EdgeNeXt
from ..models.backbones.weights import read_stages
from .formats import FORMATS, rename, to_ours

#: Where the authors' and other training codes keep the weights in a file, best first: they report
#: the accuracy of the moving average where there is one.
WRAPPERS = ('model_ema', 'model', 'state_dict')


def unwrap(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a loaded file.

    Args:
        checkpoint: A bare state dict, or a dict that holds one under one of :data:`WRAPPERS`.
        key: The entry to take, of any name. Default: the first of :data:`WRAPPERS` that is there.

    Raises:
        UserError: If there is no such entry, or what is there is no state dict.
    """
    found = [k for k in WRAPPERS if isinstance(checkpoint.get(k), Mapping)]
    if key is not None:
        if not isinstance(checkpoint.get(key), Mapping):
            raise UserError(
                f'The checkpoint has no entry {key!r}. It holds: {_shorten(checkpoint)}.'
            )
        checkpoint = checkpoint[key]
    elif found:
        checkpoint = checkpoint[found[0]]
    if not checkpoint or not all(isinstance(v, Tensor) for v in checkpoint.values()):
        raise UserError(
            'The checkpoint holds no state dict: expected tensors by name, bare or under one of '
            f'{", ".join(WRAPPERS)}; got {_shorten(checkpoint)}.'
        )
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def _shorten(checkpoint: Mapping[str, Any]) -> str:
    names = [str(k) for k in checkpoint]
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def convert(
    checkpoint: Mapping[str, Any], target: str = 'ours', key: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Brings the weights of an EdgeNeXt of the paper from any format to another.

    Args:
        checkpoint: The content of a file: a classifier, or its backbone alone.
        target: One of :data:`~edgenext_mm.checkpoints.formats.FORMATS`. Default: ours.
        key: Where in the file the weights are; see :func:`unwrap`.

    Returns:
        The name of the arch, and the content of the new file: bare weights for the authors' format
        and timm's, weights under ``state_dict`` for ours and mmpretrain's.

    Raises:
        UserError: If it does not hold all weights, and no others, of one of the seven variants.
    """
    weights = to_ours(unwrap(checkpoint, key))
    stages = read_stages(weights, 'backbone.')
    name = next((name for name, arch in ARCHS.items() if arch.stages == stages), None)
    if name is None:
        raise UserError(
            f'These are not the weights of an EdgeNeXt of the paper ({", ".join(ARCHS)}) in any '
            f'known format ({", ".join(FORMATS)}). First names: {_shorten(weights)}.'
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
