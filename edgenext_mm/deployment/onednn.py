"""Linear layers by oneDNN, through operators that PyTorch has for its compiler.

One pass multiplies, adds the bias, and applies an activation or adds a residual.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ACTIVATIONS = (nn.GELU, nn.Hardswish)


def takes(x: Tensor, act: nn.Module | None = None) -> bool:
    """Whether oneDNN can be used for a tensor: on a CPU, in single precision, run eagerly.

    Args:
        x: Any.
        act: Activation that follows, or None. Default: None.
    """
    return (
        x.device.type == 'cpu'
        and x.dtype == torch.float32
        and (act is None or type(act) in _ACTIVATIONS)
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    act: nn.Module | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """``act(x @ weight.t() + bias)``, or ``x @ weight.t() + bias + residual``. Has no gradient.

    Args:
        x: (N, I) tokens.
        weight: (O, I).
        bias: (O,), or None for 0.
        act: GELU, Hard-Swish, or None. Default: None.
        residual: (..., O) of N places, instead of an activation. Default: None.
    """
    operator = torch.ops.mkldnn._linear_pointwise
    if residual is not None:
        return operator.binary(x, residual.reshape(len(x), -1), weight, bias, 'add')
    if act is None:
        return operator(x, weight, bias, 'none', [], '')
    if isinstance(act, nn.GELU):
        return operator(x, weight, bias, 'gelu', [], act.approximate)
    return operator(x, weight, bias, 'hardswish', [], '')
