"""Linear layers by oneDNN, through operators that PyTorch has for its compiler.

One pass multiplies, adds the bias, and applies an activation or adds a residual.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: What oneDNN calls the activations.
_ACTIVATIONS = {nn.GELU: ('gelu', 'none'), nn.Hardswish: ('hardswish', '')}


def takes(x: Tensor, act: nn.Module | None = None) -> bool:
    """Whether it is there for a tensor: on a CPU, in single precision, run eagerly.

    Args:
        x: Any.
        act: Activation that is to follow. Default: None.
    """
    return (
        x.device.type == 'cpu'
        and x.dtype == torch.float32
        and (act is None or type(act) in _ACTIVATIONS)
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def prepare_weight(weight: Tensor, rows: int) -> Tensor:
    """The weight laid out for oneDNN; it takes others, too, and lays them out at each call.

    Args:
        weight: (O, I).
        rows: Tokens of a call.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


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
        weight: (O, I), prepared or not.
        bias: (O,), or None for 0.
        act: GELU, Hard-Swish, or None. Default: None.
        residual: (..., O) of N places, instead of an activation. Default: None.
    """
    operator = torch.ops.mkldnn._linear_pointwise
    if residual is not None:
        return operator.binary(x, residual.reshape(len(x), -1), weight, bias, 'add')
    attr, algorithm = ('none', '') if act is None else _ACTIVATIONS[type(act)]
    return operator(x, weight, bias, attr, [], algorithm)
