"""Gradients by hand, for training on a CPU: the encoders with less work around their products.

PyTorch's own operators write and read a map once for each step, and multiply by MKL. Here oneDNN
multiplies, which adds bias and residual as it goes; layer scale goes into the weights, which are
smaller than a batch's maps; the activation's gradient is written over the one it follows from,
where that is faster; and both gradients of large depth-wise kernels are forward convolutions, for
which oneDNN has the better code.

Only where it is exact and pays: see :func:`pays`.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import onednn

#: Largest side of a map that can serve as a kernel, by measurement.
_LARGEST_KERNEL = 64


def _is_intel() -> bool:
    info = Path('/proc/cpuinfo')
    return 'GenuineIntel' in (info.read_text() if info.is_file() else platform.processor())


#: Whether the processor is of the make for which MKL has its best kernels.
_ON_INTEL = _is_intel()


def pays(x: Tensor) -> bool:
    """Whether oneDNN takes a map, and gradients are recorded in single precision."""
    return (
        onednn.takes(x)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled('cpu')
        and not torch._C._are_functorch_transforms_active()  # they would need rules of their own
    )


def scaled_mlp(
    x: Tensor,
    expand: nn.Linear,
    project: nn.Linear,
    scale: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """``residual + scale * project(gelu(expand(x)))``.

    Args:
        x: (B, H, W, C) map.
        expand: From C to the hidden width D.
        project: Back to C.
        scale: (C,), or None for 1.
        residual: (B, H, W, C), or None for 0.
    """
    layers = expand.weight, expand.bias, project.weight, project.bias
    return _ScaledMlp.apply(x, *layers, scale, residual)


class _ScaledMlp(torch.autograd.Function):
    """Linear layer to D, GELU, linear layer back to C, scale, residual."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        scale: Tensor | None,
        residual: Tensor | None,
    ) -> Tensor:
        C = x.shape[-1]
        tokens = x.reshape(-1, C)
        hidden = onednn.linear(tokens, weight1, bias1)
        active = F.gelu(hidden)
        scaled2 = weight2 if scale is None else weight2 * scale[:, None]
        scaled_bias2 = bias2 if scale is None else bias2 * scale
        y = onednn.linear(active, scaled2, scaled_bias2, residual=residual)
        ctx.save_for_backward(tokens, hidden, active, weight1, weight2, bias2, scaled2, scale)
        ctx.has_residual = residual is not None
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, hidden, active, weight1, weight2, bias2, scaled2, scale = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_active = onednn.linear(rows, scaled2.t())
        # Over the one it follows from, but where a second map was measured to be faster.
        grad_hidden = torch.empty_like(grad_active) if _ON_INTEL else grad_active
        torch.ops.aten.gelu_backward.grad_input(grad_active, hidden, grad_input=grad_hidden)
        grad_x = onednn.linear(grad_hidden, weight1.t()).view(grad.shape)
        grad_weight1, grad_bias1 = grad_hidden.t() @ tokens, grad_hidden.sum(0)
        # Of the two ways to multiply over all tokens, MKL is faster at this one on Intel's, and at
        # the other elsewhere.
        grad_weight2 = rows.t() @ active if _ON_INTEL else (active.t() @ rows).t()
        # Contiguous, as the weight is: distributed training wants that.
        grad_weight2, grad_bias2, grad_scale = grad_weight2.contiguous(), rows.sum(0), None
        if scale is not None:
            grad_scale = torch.linalg.vecdot(grad_weight2, weight2) + grad_bias2 * bias2
            grad_weight2.mul_(scale[:, None])
            grad_bias2.mul_(scale)
        layers = grad_weight1, grad_bias1, grad_weight2, grad_bias2
        return grad_x, *layers, grad_scale, grad if ctx.has_residual else None


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
        grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, p, dilation, C)
        # The correlation of each map with its gradient: B * C maps and kernels as channels.
        maps = x.permute(2, 3, 0, 1).contiguous().view(1, H, W, B * C).permute(0, 3, 1, 2)
        kernels = grad.reshape(B * C, 1, H, W)
        found = F.conv2d(maps, kernels, stride=dilation, padding=p, groups=B * C)
        found = found.permute(0, 2, 3, 1).reshape(*weight.shape[2:], B, C).sum(2)  # (k, k, C)
        # Laid out as the weight is: distributed training wants that.
        grad_weight = torch.empty_like(weight).copy_(found.permute(2, 0, 1)[:, None])
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.has_bias else None, None, None
