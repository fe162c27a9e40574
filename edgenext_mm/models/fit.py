"""Whether the parts of a model fit together, told in words before the first tensor is refused."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import UserError
from .backbones import EdgeNeXt

#: Parts that take the backbone's maps: the first that a model has.
CONSUMERS = ('neck', 'bbox_head', 'rpn_head', 'decode_head')


def check_fit(model: nn.Module) -> None:
    """Checks that what follows an EdgeNeXt backbone takes what it returns.

    Args:
        model: A classifier, detector or segmentor of OpenMMLab; others pass.

    Raises:
        UserError: If a detector or segmentor stands on a pooled backbone, or the channels of
            backbone and neck or head disagree.
    """
    backbone = getattr(model, 'backbone', None)
    name = next((name for name in CONSUMERS if getattr(model, name, None) is not None), None)
    # A classifier has a `head`, and pools in the backbone or in its neck.
    if not isinstance(backbone, EdgeNeXt) or name is None or hasattr(model, 'head'):
        return
    consumer = getattr(model, name)
    if backbone.final_norm is not None:
        raise UserError(
            f'model.backbone has final_norm={backbone.final_norm!r}, with which its last stage '
            f'returns a vector for classification, but {type(model).__name__} needs maps. Leave '
            '`final_norm` out.'
        )
    if isinstance(consumer, nn.ModuleList):  # the stages of a cascade take the same maps
        consumer = consumer[0]
    wanted = getattr(consumer, 'in_channels', None)
    if wanted is None:
        return
    given = [backbone.arch.dims[i] for i in backbone.out_indices]
    index = getattr(consumer, 'in_index', None)  # mmseg's heads choose from the maps
    taken = given if index is None else [given[i] for i in _as_list(index)]
    if _as_list(wanted) != taken:
        choice = '' if index is None else f' at in_index={index}'
        raise UserError(
            f'model.backbone ({backbone.arch.dims} channels by stage) returns maps of {given} '
            f'channels, but model.{name} ({type(consumer).__name__}) takes {wanted}{choice}. Set '
            f'model.{name}.in_channels={taken[0] if isinstance(wanted, int) else taken}.'
        )


def _as_list(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
