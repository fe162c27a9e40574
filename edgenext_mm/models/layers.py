"""The layers of EdgeNeXt: norms, positional encoding, attention and the two encoders.

Dimension letters: B batch, C channels, H height, W width, N = H * W tokens, h heads, d = C / h.

Inside the backbone, feature maps are (B, C, H, W) tensors in channels-last memory. Convolutions
use this memory as a map and linear layers use it as (B, H, W, C) or (B, N, C) tokens, so the
permutes between the two are views.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def to_channels_last(x: Tensor) -> Tensor:
    """Returns a (B, C, H, W) map in channels-last memory.

    ``x.contiguous(memory_format=torch.channels_last)`` does the same but does not support
    ``torch.func.vmap``.
    """
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map, with eps 1e-6 as in the paper's code.

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
    """Builds LayerNorm (``norm='LN'``, eps 1e-6) or BatchNorm (``'BN'``, eps 1e-5)."""
    return nn.BatchNorm2d(num_channels) if norm == 'BN' else LayerNorm2d(num_channels)


def depthwise_conv(
    dim: int,
    kernel_size: int,
    dilation: int,
    bias: bool = True,
    in_dim: int | None = None,
    stride: int = 1,
) -> nn.Conv2d:
    """Builds a depth-wise convolution, which keeps the size of the map if the stride is 1.

    Args:
        dim: C.
        kernel_size: Kernel size, odd.
        dilation: Spacing between the elements of the kernel, in pixels.
        bias: Whether to add a bias. Default: True.
        in_dim: Channels of the input, a divisor of C. Default: C.
        stride: Stride. Default: 1.
    """
    groups = in_dim or dim
    padding = kernel_size // 2 * dilation
    conv = nn.Conv2d(groups, dim, kernel_size, stride, padding, dilation, groups, bias)
    # A (C, 1, k, k) weight is contiguous in both memory formats, but the strides of its second
    # dimension differ. DistributedDataParallel warns if they are not those of the gradient.
    return conv.to(memory_format=torch.channels_last)


class PositionalEncodingFourier(nn.Module):
    """Positional encoding: sines and cosines of row and column, projected to ``dim`` channels.

    Rows and columns are numbered from 1 and divided by the last number, so that a map of any size
    covers (0, 2 pi]. The first half of the features encodes the row and the second half the
    column. Even features are sines, odd features are cosines.

    Args:
        dim: Channels of the map to which the encoding is added.
        hidden_dim: Number of features per axis. Default: 32.
        temperature: Base of the wavelengths. Default: 10000.

    Reference: XCiT, arXiv 2106.09681.
    """

    def __init__(self, dim: int, hidden_dim: int = 32, temperature: float = 10000.0) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.temperature = temperature
        self.token_projection = nn.Conv2d(2 * hidden_dim, dim, kernel_size=1)

    def forward(self, height: int, width: int) -> Tensor:
        """Returns the (1, dim, height, width) encoding in channels-last memory."""
        # Not the weight: if it is parametrized, as by spectral_norm, each access recomputes it.
        like = self.token_projection.bias
        y, x = (
            axis_features(length, self.hidden_dim, self.temperature, like.device)
            for length in (height, width)
        )
        y = y[:, None, :].expand(-1, width, -1)
        x = x[None, :, :].expand(height, -1, -1)
        features = torch.cat((y, x), dim=2)[None].permute(0, 3, 1, 2)
        return self.token_projection(features.to(like.dtype))


def axis_features(length: int, hidden_dim: int, temperature: float, device: torch.device) -> Tensor:
    """Computes the features of the positions along one axis.

    Args:
        length: Number of positions.
        hidden_dim: Number of features.
        temperature: Base of the wavelengths.
        device: Device of the result.

    Returns:
        (length, hidden_dim) features. The tensor is cached and must not be modified.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        # The exported program may take other lengths, so the computation must be recorded.
        return _compute_features(length, hidden_dim, temperature, device)
    return _cached_features(length, hidden_dim, temperature, device)


def _compute_features(
    length: int, hidden_dim: int, temperature: float, device: torch.device
) -> Tensor:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    position = position / (length + 1e-6) * (2 * math.pi)
    exponent = torch.arange(0, hidden_dim, 2, dtype=torch.float32, device=device)
    angle = position[:, None] / temperature ** (exponent / hidden_dim)
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)


_cached_features = lru_cache(maxsize=256)(_compute_features)


class CrossCovarianceAttention(nn.Module):
    """Cross-covariance attention (XCA): self-attention between channels instead of tokens.

    The cost grows linearly with the number of tokens. In each head, queries and keys are
    L2-normalised along the tokens. The (d, d) attention is ``softmax(q k^T * temperature)`` with
    one learnt temperature per head.

    Args:
        dim: C.
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
        """Maps (B, N, C) tokens to (B, N, C) tokens."""
        B, N, C = x.shape
        # Everything up to the projection works along the tokens: transpose once.
        qkv = self.qkv(x).transpose(1, 2).reshape(B, 3, self.num_heads, -1, N)
        q, k, v = qkv.unbind(1)  # each (B, h, d, N)
        attention = (_normalize(q) @ _normalize(k).transpose(-2, -1)) * self.temperature
        x = (attention.softmax(dim=-1) @ v).reshape(B, C, N)
        return self.proj(x.transpose(1, 2))


def _normalize(x: Tensor) -> Tensor:
    """Scales ``x`` to L2 norm 1 along the last axis.

    The norm is computed at least in single precision: sums of squares overflow in half precision.
    """
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.normalize(precise, dim=-1, eps=1e-12).to(x.dtype)


class Encoder(nn.Module):
    """Base of both encoders: norm, MLP, layer scale and drop path, added to the input.

    Args:
        dim: C.
        norm: ``'LN'`` or ``'BN'``. Default: ``'LN'``.
        act: Activation of the MLP, by its name in mmcv's registry. Default: ``'GELU'``.
        mlp_ratio: Hidden width of the MLP divided by ``dim``. Default: 4.
        drop_path: Probability that the residual branch of a sample is dropped in training.
            Default: 0.
        layer_scale_init_value: Initial layer scale; 0 disables layer scale. Default: 1e-6.
    """

    def __init__(
        self,
        dim: int,
        norm: str = 'LN',
        act: str = 'GELU',
        mlp_ratio: float = 4,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.norm = build_norm(norm, dim)
        self.pwconv1 = nn.Linear(dim, hidden)
        self.act = build_activation_layer(dict(type=act))
        self.pwconv2 = nn.Linear(hidden, dim)
        self.gamma: nn.Parameter | None = None
        if layer_scale_init_value > 0:
            self.gamma = nn.Parameter(torch.full((dim,), float(layer_scale_init_value)))
        self.drop_path = DropPath(drop_path)

    def _add_mlp(self, x: Tensor, t: Tensor) -> Tensor:
        """Returns ``x + drop_path(gamma * mlp(norm(t)))``."""
        t = self.norm(t).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        t = self.pwconv2(self.act(self.pwconv1(t)))
        return self._add(x, t.permute(0, 3, 1, 2), self.gamma)

    def _add(self, x: Tensor, branch: Tensor, gamma: nn.Parameter | None) -> Tensor:
        """Returns ``x + drop_path(gamma * branch)``."""
        if gamma is None:
            return x + self.drop_path(branch)
        gamma = gamma.view(-1, 1, 1)
        if self.training:
            return x + self.drop_path(gamma * branch)
        # One pass over memory instead of two. In training, its backward pass would be slower.
        return torch.addcmul(x, branch, gamma)


class ConvEncoder(Encoder):
    """Conv. encoder: depth-wise convolution and MLP around one residual connection.

    If the encoder changes the number of channels, the residual connection starts after the
    depth-wise convolution, and the map becomes smaller by its stride.

    Args:
        dim: C.
        kernel_size: Kernel size of the depth-wise convolution, odd.
        dilation: Dilation of the depth-wise convolution. Default: 1.
        norm: ``'LN'`` or ``'BN'``. Default: ``'LN'``.
        conv_bias: Whether the convolution has a bias; never with ``'BN'``. Default: True.
        in_dim: Channels of the input, a divisor of C. Default: None, C.
        stride: Stride of the depth-wise convolution, 1 if ``in_dim`` is None. Default: 1.
        kwargs: Other arguments of :class:`Encoder`.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        dilation: int = 1,
        norm: str = 'LN',
        conv_bias: bool = True,
        in_dim: int | None = None,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, norm, **kwargs)
        bias = conv_bias and norm == 'LN'
        self.dwconv = depthwise_conv(dim, kernel_size, dilation, bias, in_dim, stride)
        self.downsamples = in_dim is not None

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, in_dim, H, W) map to a (B, C, ceil(H / stride), ceil(W / stride)) map."""
        t = self.dwconv(x)
        return self._add_mlp(t if self.downsamples else x, t)


class SDTAEncoder(Encoder):
    """Split depth-wise transpose attention (SDTA) encoder.

    Multi-scale depth-wise convolutions, cross-covariance attention and MLP: see
    :func:`multi_scale`, :class:`CrossCovarianceAttention` and :class:`Encoder`.

    Args:
        dim: C.
        num_heads: Number of heads of the attention, a divisor of ``dim``.
        scales: Number of channel groups. The last group can have fewer channels.
        pos_encoding: Whether to add a positional encoding before the attention. Default: False.
        dilation: Dilation of the 3x3 depth-wise convolutions. Default: 1.
        norm: ``'LN'`` or ``'BN'``. Default: ``'LN'``.
        conv_bias: Whether the convolutions have a bias. Default: True.
        kwargs: Other arguments of :class:`Encoder`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        scales: int,
        pos_encoding: bool = False,
        dilation: int = 1,
        norm: str = 'LN',
        conv_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, norm, **kwargs)
        width = math.ceil(dim / scales)
        #: Channels of each group. As integers, and not by chunk(), converters know them.
        self.widths = [width] * (scales - 1) + [dim - width * (scales - 1)]
        self.convs = nn.ModuleList(
            depthwise_conv(width, 3, dilation, conv_bias) for _ in self.widths[:-1]
        )
        self.pos_embd = PositionalEncodingFourier(dim) if pos_encoding else None
        self.norm_xca = build_norm(norm, dim)
        self.norm_xca_is_residual = norm == 'BN'
        self.xca = CrossCovarianceAttention(dim, num_heads)
        self.gamma_xca = deepcopy(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to a map of the same shape."""
        t = multi_scale(x.split(self.widths, dim=1), self.convs)
        size = H, W = t.shape[-2:]
        # With BatchNorm, the norm comes before the positional encoding and the residual connection.
        if self.norm_xca_is_residual:
            t = self.norm_xca(t)
        if self.pos_embd is not None:
            t = t + self.pos_embd(H, W)
        y = t if self.norm_xca_is_residual else self.norm_xca(t)
        y = self.xca(y.flatten(2).transpose(1, 2))  # (B, C, H, W) -> (B, N, C)
        y = y.transpose(1, 2).unflatten(2, size)  # (B, N, C) -> (B, C, H, W)
        t = self._add(t, y, self.gamma_xca)
        return self._add_mlp(x, t)


def multi_scale(groups: Sequence[Tensor], convs: nn.ModuleList) -> Tensor:
    """Applies the depth-wise convolutions of an SDTA encoder.

    Each group of channels except the last is added to the output of the group before it and goes
    through its own convolution.

    Args:
        groups: The (B, C_i, H, W) groups of a map's channels.
        convs: One convolution for each group except the last.

    Returns:
        A (B, C, H, W) map.
    """
    *groups, last = groups
    outputs: list[Tensor] = []
    for conv, group in zip(convs, groups, strict=True):
        outputs.append(conv(group + outputs[-1] if outputs else group))
    return torch.cat((*outputs, last), dim=1)


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """Runs ``module(x)`` and recomputes its activations in the backward pass to save memory.

    BatchNorm updates its running statistics once per batch, as without recomputation.
    """
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _keep_statistics(module)),
    )


@contextmanager
def _keep_statistics(module: nn.Module) -> Iterator[None]:
    """Lets BatchNorm layers update copies of their running statistics."""
    # track_running_stats=False would save fewer tensors than the first pass, which is an error.
    statistics = [
        (norm, name, buffer)
        for norm in module.modules()
        if isinstance(norm, _BatchNorm)
        for name, buffer in norm.named_buffers(recurse=False)
    ]
    for norm, name, buffer in statistics:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)
