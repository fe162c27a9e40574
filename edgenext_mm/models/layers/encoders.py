"""The two encoders that an EdgeNeXt stage is made of.

Dimension letters: B batch, C channels, H height, W width, N = H * W tokens.

Inside the backbone, feature maps are (B, C, H, W) tensors in channels-last memory, so that the same
memory serves the convolutions as a map and the linear layers as (B, H, W, C) or (B, N, C) tokens:
the permutes between them are views.
"""

import torch
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .attention import CrossCovarianceAttention
from .norm import build_norm
from .position_encoding import PositionalEncodingFourier


def to_channels_last(x: Tensor) -> Tensor:
    """A (B, C, H, W) map in channels-last memory.

    Like ``x.contiguous(memory_format=torch.channels_last)``, which ``torch.func.vmap`` lacks.
    """
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


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
