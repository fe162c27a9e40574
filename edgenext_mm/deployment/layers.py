"""The layers of the deploy form, in each layout.

Maps are (B, C, H, W) in all of them. ``channels_last`` keeps channels innermost in memory and mixes
them by linear layers, the others do it by 1x1 convolutions. These differ in how a norm reaches the
channels of a place: ``channels_first`` transposes the map, ``channels_first_tokens`` the (B, C, N)
tokens. Which one a runtime sees through, and which it carries out, was measured.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import LayerNorm2d, PositionalEncodingFourier, onednn
from ..models.layers.position_encoding import axis_features
from .folding import Affine, affine_of

LAYOUTS = ('channels_last', 'channels_first', 'channels_first_tokens')
#: Multiply-adds of a layer from which one pass of oneDNN pays its dearer call, by measurement.
_FUSED_FROM = 50e6
_IN_PLACE = {nn.GELU: torch.ops.aten.gelu_, nn.Hardswish: torch.ops.aten.hardswish_}


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


class Prepared(nn.Module):
    """A layer that prepares its weights at the first call, and anew once they have changed."""

    _prepared: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_prepared': None}  # copies prepare their own

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._prepared = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._prepared = None
        super()._load_from_state_dict(*args)


class Pointwise(Prepared):
    """A linear layer over channels, with an activation or a residual after it.

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
        if self.layout != 'channels_last':
            y = self._activate(F.conv2d(x, self.weight[..., None, None], self.bias))
            return y if residual is None else residual + y
        if self._fuses(x):
            return self._fused(x, residual)
        x = x.permute(0, 2, 3, 1)
        if residual is None:
            return self._activate(F.linear(x, self.weight, self.bias)).permute(0, 3, 1, 2)
        if torch.is_autocast_enabled(x.device.type):  # which leaves operators in place alone
            return residual + F.linear(x, self.weight, self.bias).permute(0, 3, 1, 2)
        y = (residual.permute(0, 2, 3, 1) + self.bias).contiguous()
        y.flatten(0, 2).addmm_(x.flatten(0, 2), self.weight.t())
        return y.permute(0, 3, 1, 2)

    def _activate(self, y: Tensor) -> Tensor:
        if self.act is None:
            return y
        in_place = _IN_PLACE.get(type(self.act))
        return self.act(y) if in_place is None else in_place(y)

    def _fuses(self, x: Tensor) -> bool:
        """Whether oneDNN is there to do it all in one pass, on weights laid out for it."""
        return (
            onednn.takes(x, self.act)
            and x.numel() * len(self.weight) >= _FUSED_FROM
            and not torch.is_grad_enabled()
        )

    def _fused(self, x: Tensor, residual: Tensor | None) -> Tensor:
        B, _, H, W = x.shape
        if self._prepared is None:
            self._prepared = onednn.prepare_weight(self.weight, B * H * W)
        tokens = x.permute(0, 2, 3, 1).reshape(B * H * W, -1)
        if residual is not None:
            residual = residual.permute(0, 2, 3, 1)
        y = onednn.linear(tokens, self._prepared, self.bias, self.act, residual)
        return y.view(B, H, W, -1).permute(0, 3, 1, 2)


class Position(Prepared):
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
        self.rows = nn.Parameter(rows, requires_grad=False)
        self.columns = nn.Parameter(columns, requires_grad=False)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer('fixed', size and self._encode(*size))
        if size is not None:
            del self.rows, self.columns, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """The (C, H, W) encoding for a (B, C, H, W) map."""
        if self.fixed is not None:
            return self.fixed
        size = (x.shape[-2], x.shape[-1])
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return self._encode(*size)
        if self._prepared is None or self._prepared.shape[1:] != size:
            self._prepared = self._encode(*size)
        return self._prepared

    def _encode(self, height: int, width: int) -> Tensor:
        y = F.linear(self._features(height), self.rows, self.bias)
        x = F.linear(self._features(width), self.columns)
        return (y[:, None, :] + x[None, :, :]).permute(2, 0, 1)  # channels last in memory

    def _features(self, length: int) -> Tensor:
        features = axis_features.__wrapped__(
            length, self.hidden_dim, self.temperature, self.rows.device
        )
        return features.to(self.rows.dtype)
