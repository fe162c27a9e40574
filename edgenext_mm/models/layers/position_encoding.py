"""Fourier positional encoding."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


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
