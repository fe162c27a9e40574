"""The layers of the deploy form, in each layout.

Maps are (B, C, H, W) in all of them. ``channels_last`` keeps channels innermost in memory and mixes
them by linear layers, the others do it by 1x1 convolutions. These differ in how a norm reaches the
channels of a place: ``channels_first`` transposes the map, ``channels_first_tokens`` the (B, C, N)
tokens. Which one a runtime sees through, and which it carries out, was measured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import LayerNorm2d, PositionalEncodingFourier, axis_features
from . import onednn
from .folding import Affine, affine_of

LAYOUTS = ('channels_last', 'channels_first', 'channels_first_tokens')
#: Multiply-adds of a layer from which one pass of oneDNN is faster, by measurement.
_FUSED_FROM = 50e6


class Normalize(nn.Module):
    """LayerNorm over channels, by default without its scale and shift.

    Args:
        norm: The trained one.
        layout: One of :data:`LAYOUTS`.
        scaled: Whether scale and shift stay. Default: False.
    """

    def __init__(self, norm: LayerNorm2d, layout: str, scaled: bool = False) -> None:
        super().__init__()
        self.shape = norm.normalized_shape
        self.eps = norm.eps
        self.layout = layout
        for name in ('weight', 'bias'):
            value = getattr(norm, name).detach().clone() if scaled else None
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        weight, bias = self.weight, self.bias
        if self.layout == 'channels_first_tokens':
            t = x.flatten(2).transpose(1, 2)
            t = F.layer_norm(t, self.shape, weight, bias, self.eps)
            return t.transpose(1, 2).unflatten(2, x.shape[2:])
        x = x.permute(0, 2, 3, 1)
        if self.layout == 'channels_last' or weight is None:
            return F.layer_norm(x, self.shape, weight, bias, self.eps).permute(0, 3, 1, 2)
        x = F.layer_norm(x, self.shape, eps=self.eps).permute(0, 3, 1, 2)
        # A convolution: it takes part in ONNX Runtime's blocked layout, a product would not.
        return F.conv2d(x, weight.view(-1, 1, 1, 1), bias, groups=len(weight))


class Pointwise(nn.Module):
    """A linear layer over channels, with an activation or a residual after it.

    No operator works in place: what it writes to a view is lost in converters of traced models.

    Args:
        affine: (O, I) weight and (O,) bias.
        layout: One of :data:`LAYOUTS`.
        act: Activation. Default: None.
    """

    def __init__(self, affine: Affine, layout: str, act: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(affine.weight.float(), requires_grad=False)
        self.bias = nn.Parameter(affine.bias.float(), requires_grad=False)
        self.act = act
        self.layout = layout

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps a (B, I, H, W) map to (B, O, H, W), plus the residual of that shape."""
        if self.layout == 'channels_last':
            tokens = x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
            if self._fuses(x):
                return self._fused(tokens, residual).permute(0, 3, 1, 2)
            y = F.linear(tokens, self.weight, self.bias)
        else:
            y = F.conv2d(x, self.weight[..., None, None], self.bias)
        if self.act is not None:
            y = self.act(y)
        if self.layout == 'channels_last':
            y = y.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        return y if residual is None else residual + y

    def _fuses(self, x: Tensor) -> bool:
        """Whether oneDNN can do all of it in one pass, and is faster at that."""
        return (
            onednn.takes(x, self.act)
            and x.numel() * len(self.weight) >= _FUSED_FROM
            and not torch.is_grad_enabled()
        )

    def _fused(self, tokens: Tensor, residual: Tensor | None) -> Tensor:
        B, H, W, C = tokens.shape
        if residual is not None:
            residual = residual.permute(0, 2, 3, 1)
        y = onednn.linear(tokens.reshape(-1, C), self.weight, self.bias, self.act, residual)
        return y.view(B, H, W, -1)


class Position(nn.Module):
    """The positional encoding, for a fixed size or any.

    Rows and columns are projected by themselves and added: the same, with H + W products of vectors
    instead of H * W.

    Args:
        encoding: The trained one.
        size: (H, W) of the map, where it is fixed. Default: None.
    """

    def __init__(
        self, encoding: PositionalEncodingFourier, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.hidden_dim = encoding.hidden_dim
        self.temperature = encoding.temperature
        weight, bias = affine_of(encoding.token_projection)
        rows, columns = weight.flatten(1).float().split(self.hidden_dim, dim=1)
        self.rows = nn.Parameter(rows.contiguous(), requires_grad=False)
        self.columns = nn.Parameter(columns.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer('fixed', size and self._encode(*size).contiguous())
        if size is not None:
            del self.rows, self.columns, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """The (C, H, W) encoding for a (B, C, H, W) map."""
        if self.fixed is not None:
            return self.fixed
        return self._encode(x.shape[-2], x.shape[-1])

    def _encode(self, height: int, width: int) -> Tensor:
        y = F.linear(self._features(height), self.rows, self.bias)
        x = F.linear(self._features(width), self.columns)
        return (y[:, None, :] + x[None, :, :]).permute(2, 0, 1)  # channels last in memory

    def _features(self, length: int) -> Tensor:
        features = axis_features(length, self.hidden_dim, self.temperature, self.rows.device)
        return features.to(self.rows.dtype)
