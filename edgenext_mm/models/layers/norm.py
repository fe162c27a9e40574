"""The norms of the two families, both over the channels of a feature map."""

import torch.nn.functional as F
from torch import Tensor, nn


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
