"""Gradients by hand, for training on a CPU: the encoders with less work around their products.

PyTorch's own operators write and read a map once for each step. Here layer scale and the norm's
scale and shift go into the weights, which are far smaller than a batch's maps; the activation's
gradient is written over the one it follows from; and large depth-wise kernels get their gradient
from a forward convolution, for which oneDNN has the better code.

Only where it is exact and pays: see :func:`pays`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Largest side of a map that can serve as a kernel, by measurement.
_LARGEST_KERNEL = 16


def pays(x: Tensor) -> bool:
    """Whether a map is on a CPU, in single precision, and gradients are recorded eagerly."""
    return (
        x.device.type == 'cpu'
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def normed_mlp(
    x: Tensor,
    norm: nn.LayerNorm,
    expand: nn.Linear,
    project: nn.Linear,
    scale: Tensor | None,
    residual: Tensor,
) -> Tensor:
    """``residual + scale * project(gelu(expand(norm(x))))``.

    Args:
        x: (B, H, W, C) map.
        norm: Over C.
        expand: From C to the hidden width.
        project: Back to C.
        scale: (C,), or None for 1.
        residual: (B, H, W, C).
    """
    weight1 = expand.weight * norm.weight
    bias1 = F.linear(norm.bias, expand.weight, expand.bias)
    weight2, bias2 = project.weight.t(), project.bias
    if scale is not None:
        weight2, bias2 = weight2 * scale, bias2 * scale
    # With rows of C, its gradient is the product that MKL is faster at.
    weight2 = weight2.contiguous()
    return _NormedMlp.apply(x, weight1, bias1, weight2, bias2, residual, norm.eps)


class _NormedMlp(torch.autograd.Function):
    """Normalisation without scale and shift, (D, C) weight, GELU, (D, C) weight, residual."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        residual: Tensor,
        eps: float,
    ) -> Tensor:
        C = x.shape[-1]
        normed, mean, rstd = torch.native_layer_norm(x, (C,), None, None, eps)
        tokens = normed.reshape(-1, C)
        hidden = torch.addmm(bias1, tokens, weight1.t())
        active = F.gelu(hidden)
        y = (residual + bias2).contiguous()
        y.view(-1, C).addmm_(active, weight2)
        ctx.save_for_backward(x, tokens, mean, rstd, hidden, active, weight1, weight2)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, tokens, mean, rstd, hidden, active, weight1, weight2 = ctx.saved_tensors
        C = x.shape[-1]
        rows = grad.reshape(-1, C)
        grad_hidden = rows @ weight2.t()
        torch.ops.aten.gelu_backward.grad_input(grad_hidden, hidden, grad_input=grad_hidden)
        grad_normed = (grad_hidden @ weight1).view(x.shape)
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad_normed, x, (C,), mean, rstd, None, None, [True, False, False]
        )
        grad_weight1, grad_bias1 = grad_hidden.t() @ tokens, grad_hidden.sum(0)
        grad_weight2, grad_bias2 = active.t() @ rows, rows.sum(0)
        return grad_x, grad_weight1, grad_bias1, grad_weight2, grad_bias2, grad, None


class DepthwiseConv2d(nn.Conv2d):
    """A depth-wise convolution of stride 1 that keeps the size of its map.

    Args:
        dim: C.
        kernel_size: Odd.
        dilation: Default: 1.
        bias: Default: True.
    """

    def __init__(self, dim: int, kernel_size: int, dilation: int = 1, bias: bool = True) -> None:
        padding = kernel_size // 2 * dilation
        super().__init__(
            dim, dim, kernel_size, padding=padding, dilation=dilation, groups=dim, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        # oneDNN has code of its own for the gradient of 3x3 weights.
        small = max(x.shape[-2:]) <= _LARGEST_KERNEL and self.kernel_size[0] > 3
        if small and self.training and pays(x):
            return _DepthwiseConv.apply(x, self.weight, self.bias, self.padding[0], self.dilation)
        return super().forward(x)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: tuple
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation, ctx.has_bias = padding, dilation, bias is not None
        return F.conv2d(x, weight, bias, 1, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        p, dilation = ctx.padding, ctx.dilation
        B, C, H, W = x.shape
        grad_x = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [p, p], dilation, False, [0, 0], C, [True, False, False]
        )[0]
        # The correlation of each padded map with its gradient: B * C maps and kernels as channels.
        padded = x.new_zeros(H + 2 * p, W + 2 * p, B, C)
        padded[p : p + H, p : p + W] = x.permute(2, 3, 0, 1)
        maps = padded.view(1, H + 2 * p, W + 2 * p, B * C).permute(0, 3, 1, 2)
        kernels = grad.reshape(B * C, 1, H, W)
        found = F.conv2d(maps, kernels, stride=dilation, groups=B * C)  # (1, B * C, k, k)
        # Laid out as the weight is: distributed training wants that.
        grad_weight = torch.empty_like(weight).copy_(found.view(B, *weight.shape).sum(0))
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.has_bias else None, None, None
