"""Cross-covariance attention."""

import torch
from torch import Tensor, nn


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
        # Of the three scales of q k^T, two go to the queries and one to the small product: the
        # keys are not copied, and the product stays small enough for half precision.
        attention = (q * (_inverse_norm(q) * self.temperature)) @ k.transpose(-2, -1)
        attention = (attention * _inverse_norm(k).transpose(-2, -1)).softmax(dim=-1)
        x = (attention @ v).reshape(B, C, N)
        return self.proj(x.transpose(1, 2))


def _inverse_norm(x: Tensor) -> Tensor:
    """1 / max(L2 norm along the last axis, 1e-12), which is kept with length 1.

    The squares are summed in single precision; where the result is half, the bound of 1e-12 is
    raised so that it is finite.
    """
    smallest = max(1e-24, torch.finfo(x.dtype).max ** -2)
    squares = x.float().pow(2).sum(dim=-1, keepdim=True)
    return squares.clamp_min(smallest).rsqrt().to(x.dtype)
