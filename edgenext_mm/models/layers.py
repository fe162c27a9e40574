"""The layers of EdgeNeXt: norms, positional encoding, attention and the two encoders.

Dimension letters: B batch, C channels, H height, W width, N = H * W tokens, h heads, d = C / h.

Inside the backbone, feature maps are (B, C, H, W) tensors in channels-last memory. The same memory
serves convolutions as a map and linear layers as (B, H, W, C) or (B, N, C) tokens: the permutes
between them are views.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def to_channels_last(x: Tensor) -> Tensor:
    """A (B, C, H, W) map in channels-last memory.

    Like ``x.contiguous(memory_format=torch.channels_last)``, which ``torch.func.vmap`` lacks.
    """
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each place of a (B, C, H, W) map; eps 1e-6 as published.

    On a channels-last map the permutes are views and nothing is copied.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)


def build_norm(norm: str, num_channels: int) -> nn.Module:
    """The norm layer of a family: ``'LN'`` or ``'BN'`` (eps 1e-5)."""
    return nn.BatchNorm2d(num_channels) if norm == 'BN' else LayerNorm2d(num_channels)


def depthwise_conv(dim: int, kernel_size: int, dilation: int, bias: bool = True) -> nn.Conv2d:
    """A depth-wise convolution of stride 1 that keeps the size of its map.

    Args:
        dim: C.
        kernel_size: Odd.
        dilation: Distance between the elements of the kernel, in pixels.
        bias: Whether it has a bias. Default: True.
    """
    padding = kernel_size // 2 * dilation
    conv = nn.Conv2d(
        dim, dim, kernel_size, padding=padding, dilation=dilation, groups=dim, bias=bias
    )
    # A (C, 1, k, k) weight is contiguous in both memory formats, whose strides differ at the second
    # dimension. Distributed training warns where they are not those of the gradient.
    return conv.to(memory_format=torch.channels_last)


class PositionalEncodingFourier(nn.Module):
    """Sines and cosines of a place's row and column, projected to the channels of a map.

    Positions count from 1 and are divided by the last one, so that a map of any size spans
    (0, 2 pi]. Of the 64 features the first half encodes the row, the second the column; even
    features are sines, odd ones cosines.

    Args:
        dim: Channels of the map that the encoding is added to.
        hidden_dim: Features per axis. Default: 32.
        temperature: Base of the wavelengths. Default: 10000.

    Reference: XCiT, arXiv 2106.09681.
    """

    def __init__(self, dim: int, hidden_dim: int = 32, temperature: float = 10000.0) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.temperature = temperature
        self.token_projection = nn.Conv2d(2 * hidden_dim, dim, kernel_size=1)

    def forward(self, height: int, width: int) -> Tensor:
        """The (1, dim, height, width) encoding of a map of that size, channels-last."""
        weight = self.token_projection.weight
        y = self._features(height, weight.device)[:, None, :].expand(-1, width, -1)
        x = self._features(width, weight.device)[None, :, :].expand(height, -1, -1)
        features = torch.cat((y, x), dim=2)[None].permute(0, 3, 1, 2)
        return self.token_projection(features.to(weight.dtype))

    def _features(self, length: int, device: torch.device) -> Tensor:
        return axis_features(length, self.hidden_dim, self.temperature, device)


def axis_features(length: int, hidden_dim: int, temperature: float, device: torch.device) -> Tensor:
    """The features of the positions along one axis.

    Args:
        length: Number of positions.
        hidden_dim: Number of features.
        temperature: Base of the wavelengths.
        device: Device of the result.

    Returns:
        A (length, hidden_dim) tensor, computed once for the same arguments; not to be changed.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        # An exporter may vary the length, and must see how the features follow from it.
        return _compute_features(length, hidden_dim, temperature, device)
    return _known_features(length, hidden_dim, temperature, device)


def _compute_features(
    length: int, hidden_dim: int, temperature: float, device: torch.device
) -> Tensor:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    position = position / (length + 1e-6) * (2 * math.pi)
    exponent = torch.arange(0, hidden_dim, 2, dtype=torch.float32, device=device)
    angle = position[:, None] / temperature ** (exponent / hidden_dim)
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)


_known_features = lru_cache(maxsize=256)(_compute_features)


class CrossCovarianceAttention(nn.Module):
    """Self-attention across channels, not places: linear in the number of tokens (XCA).

    Per head, queries and keys are L2-normalised along the tokens, and the (d, d) attention is
    ``softmax(q k^T * temperature)`` with a learnt temperature per head.

    Args:
        dim: C, the channels of a token.
        num_heads: h, a divisor of ``dim``.

    Reference: XCiT, arXiv 2106.09681.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, C) tokens to (B, N, C)."""
        B, N, C = x.shape
        # The attention works along the tokens: one transposing copy serves all that follows.
        qkv = self.qkv(x).transpose(1, 2).reshape(B, 3, self.num_heads, -1, N)
        q, k, v = qkv.unbind(1)  # each (B, h, d, N)
        attention = (_unit(q) @ _unit(k).transpose(-2, -1)) * self.temperature
        x = (attention.softmax(dim=-1) @ v).reshape(B, C, N)
        return self.proj(x.transpose(1, 2))


def _unit(x: Tensor) -> Tensor:
    """``x`` scaled to L2 norm 1 along the last axis; vectors shorter than 1e-12 stay near 0.

    The norm is computed at least in single precision: sums of squares overflow in half precision.
    """
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.normalize(precise, dim=-1, eps=1e-12).to(x.dtype)


class Encoder(nn.Module):
    """What both encoders end with: norm, MLP, layer scale and drop path around a residual.

    Args:
        dim: C.
        norm: ``'LN'`` or ``'BN'``.
        act: Name of the MLP's activation, as mmcv registers it.
        mlp_ratio: Hidden width of the MLP over ``dim``.
        drop_path: Probability of dropping the residual branch of a sample in training.
        layer_scale_init_value: Where the layer scale starts; 0 builds none.
    """

    def __init__(
        self,
        dim: int,
        norm: str,
        act: str,
        mlp_ratio: float,
        drop_path: float,
        layer_scale_init_value: float,
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.norm = build_norm(norm, dim)
        self.pwconv1 = nn.Linear(dim, hidden)
        self.act = build_activation_layer(dict(type=act))
        self.pwconv2 = nn.Linear(hidden, dim)
        self.gamma = self._layer_scale(dim, layer_scale_init_value)
        self.drop_path = DropPath(drop_path)

    @staticmethod
    def _layer_scale(dim: int, init_value: float) -> nn.Parameter | None:
        return nn.Parameter(torch.full((dim,), float(init_value))) if init_value > 0 else None

    def _add_mlp(self, x: Tensor, t: Tensor) -> Tensor:
        """x + drop_path(gamma * mlp(norm(t)))."""
        t = self.norm(t).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        t = self.pwconv2(self.act(self.pwconv1(t)))
        return self._add(x, t.permute(0, 3, 1, 2), self.gamma)

    def _add(self, x: Tensor, branch: Tensor, gamma: nn.Parameter | None) -> Tensor:
        """x + drop_path(gamma * branch)."""
        if gamma is None:
            return x + self.drop_path(branch)
        gamma = gamma.view(-1, 1, 1)
        if self.training:
            return x + self.drop_path(gamma * branch)
        # One pass instead of two; its backward pass would take one more.
        return torch.addcmul(x, branch, gamma)


class ConvEncoder(Encoder):
    """Depth-wise convolution, then the MLP, around one residual.

    Args:
        dim: C.
        kernel_size: Kernel of the depth-wise convolution, odd.
        dilation: Its dilation. Default: 1.
        norm, act, mlp_ratio, drop_path, layer_scale_init_value: See :class:`Encoder`.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        dilation: int = 1,
        *,
        norm: str = 'LN',
        act: str = 'GELU',
        mlp_ratio: float = 4,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        super().__init__(dim, norm, act, mlp_ratio, drop_path, layer_scale_init_value)
        self.dwconv = depthwise_conv(dim, kernel_size, dilation, bias=norm == 'LN')

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        return self._add_mlp(x, self.dwconv(x))


class SDTAEncoder(Encoder):
    """Split depth-wise transpose attention: multi-scale convolutions, XCA, then the MLP.

    The channels are split into ``scales`` groups; each group but the last goes through its own
    3x3 depth-wise convolution, after the output of the group before it has been added.

    Args:
        dim: C.
        num_heads: Heads of the cross-covariance attention.
        scales: Number of channel groups; the last group can be narrower.
        pos_encoding: Whether a positional encoding is added before the attention.
        dilation: Dilation of the 3x3 convolutions. Default: 1.
        norm, act, mlp_ratio, drop_path, layer_scale_init_value: See :class:`Encoder`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        scales: int,
        pos_encoding: bool = False,
        dilation: int = 1,
        *,
        norm: str = 'LN',
        act: str = 'GELU',
        mlp_ratio: float = 4,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        super().__init__(dim, norm, act, mlp_ratio, drop_path, layer_scale_init_value)
        width = -(-dim // scales)
        self.convs = nn.ModuleList(depthwise_conv(width, 3, dilation) for _ in range(scales - 1))
        self.pos_embd = PositionalEncodingFourier(dim) if pos_encoding else None
        self.norm_xca = build_norm(norm, dim)
        self.norm_xca_is_residual = norm == 'BN'
        self.xca = CrossCovarianceAttention(dim, num_heads)
        self.gamma_xca = self._layer_scale(dim, layer_scale_init_value)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        t = multi_scale(x, self.convs)
        size = H, W = t.shape[-2:]
        # With BatchNorm, the residual of the attention starts at the norm's output.
        if self.norm_xca_is_residual:
            t = self.norm_xca(t)
        if self.pos_embd is not None:
            t = t + self.pos_embd(H, W)
        y = t if self.norm_xca_is_residual else self.norm_xca(t)
        y = self.xca(y.flatten(2).transpose(1, 2))  # (B, C, H, W) -> (B, N, C)
        y = y.transpose(1, 2).unflatten(2, size)  # (B, N, C) -> (B, C, H, W)
        t = self._add(t, y, self.gamma_xca)
        return self._add_mlp(x, t)


def multi_scale(x: Tensor, convs: nn.ModuleList) -> Tensor:
    """Each group of channels but the last through its convolution, on top of the one before.

    Args:
        x: (B, C, H, W) map.
        convs: One for each group but the last.
    """
    # chunk(), not split(): exporters know the sizes of its pieces.
    *groups, last = x.chunk(len(convs) + 1, dim=1)
    outputs: list[Tensor] = []
    for conv, group in zip(convs, groups, strict=True):
        outputs.append(conv(group + outputs[-1] if outputs else group))
    return torch.cat((*outputs, last), dim=1)


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """Runs ``module(x)``, and again in the backward pass instead of keeping its activations.

    The running statistics of BatchNorm are updated once per batch, as without recomputation.
    """
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _fixed_statistics(module)),
    )


@contextmanager
def _fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Lets BatchNorm normalise by the batch without an update of its running statistics."""
    norms = [
        m
        for m in module.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
