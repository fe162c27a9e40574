"""Two layers made one: what stands between a convolution and a linear layer goes into them.

All functions are pure and work in double precision; results are single precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.layers import LayerNorm2d


class Affine(NamedTuple):
    """Weight and bias of a linear layer or convolution, or scale and shift of a norm."""

    weight: Tensor
    bias: Tensor


def affine_of(layer: nn.Module) -> Affine:
    """Weight and bias of a layer; for BatchNorm what it does with its running statistics.

    Args:
        layer: A linear layer, a convolution, a LayerNorm (what follows its normalisation), or a
            BatchNorm.
    """
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.BatchNorm2d):
        scale = weight / (layer.running_var.double() + layer.eps).sqrt()
        return Affine(scale, layer.bias.detach().double() - layer.running_mean.double() * scale)
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    return Affine(weight, bias)


def fold_before(norm: Affine, layer: Affine) -> Affine:
    """``layer(norm(x))`` as one layer.

    Args:
        norm: (I,) scale and shift of the channels that the layer takes.
        layer: (O, I, ...) weight; a convolution must not pad, since the shift is not padded.
    """
    scale = norm.weight.view(1, -1, *[1] * (layer.weight.dim() - 2))
    spatial = tuple(range(2, layer.weight.dim()))
    summed = layer.weight.sum(spatial) if spatial else layer.weight
    return Affine(layer.weight * scale, layer.bias + summed @ norm.bias)


def fold_after(layer: Affine, scale: Tensor, shift: Tensor | float = 0.0) -> Affine:
    """``scale * layer(x) + shift`` as one layer; (O,) scale of the channels that it gives."""
    shape = (-1, *[1] * (layer.weight.dim() - 1))
    return Affine(layer.weight * scale.view(shape), layer.bias * scale + shift)


def conv_with(conv: nn.Conv2d, affine: Affine) -> nn.Conv2d:
    """A convolution like ``conv`` with other weights and a bias."""
    new = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    with torch.no_grad():
        new.weight.copy_(affine.weight)
        new.bias.copy_(affine.bias)
    return new


def is_layer_norm(norm: nn.Module) -> bool:
    """Whether a norm normalises each place anew, so that only its scale and shift fold."""
    return isinstance(norm, LayerNorm2d)
