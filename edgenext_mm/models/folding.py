"""Folding of adjacent layers: norms, layer scales and linear layers become one layer.

All functions are pure and compute in double precision.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Affine(NamedTuple):
    """Weight and bias of a linear layer or convolution, or scale and shift of a norm."""

    weight: Tensor
    bias: Tensor


def affine_of(layer: nn.Module) -> Affine:
    """Returns weight and bias of a layer in double precision.

    Args:
        layer: A linear layer, convolution or LayerNorm; or a BatchNorm, for which the result is
            its scale and shift with the running statistics included.
    """
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer, _BatchNorm):
        scale = weight / (layer.running_var.double() + layer.eps).sqrt()
        return Affine(scale, bias - layer.running_mean.double() * scale)
    return Affine(weight, bias)


def fold_before(norm: Affine, layer: Affine) -> Affine:
    """Returns ``layer(norm(x))`` as one layer.

    Args:
        norm: (I,) scale and shift of the input channels.
        layer: (O, I, ...) weight; a convolution must not pad, since padding would not be shifted.
    """
    scale = norm.weight.view(1, -1, *[1] * (layer.weight.dim() - 2))
    summed = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
    return Affine(layer.weight * scale, layer.bias + summed @ norm.bias)


def fold_after(layer: Affine, scale: Tensor, shift: Tensor | float = 0.0) -> Affine:
    """Returns ``scale * layer(x) + shift`` as one layer.

    Args:
        layer: (O, ...) weight and (O,) bias.
        scale: (O,) scale of the output channels.
        shift: (O,) shift of the output channels. Default: 0.
    """
    shape = (-1, *[1] * (layer.weight.dim() - 1))
    return Affine(layer.weight * scale.view(shape), layer.bias * scale + shift)


def conv_with(conv: nn.Conv2d, affine: Affine) -> nn.Conv2d:
    """Copies a convolution with other weights and bias."""
    new = copy.deepcopy(conv)
    # Depth-wise weights have channels-last strides, which would select the layout of the output.
    weight = affine.weight.to(torch.float32, memory_format=torch.contiguous_format)
    new.weight = nn.Parameter(weight)
    new.bias = nn.Parameter(affine.bias.float())
    return new
