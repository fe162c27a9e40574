"""Cross-covariance attention."""

import torch
import torch.nn.functional as F
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
        attention = (_unit(q) @ _unit(k).transpose(-2, -1)) * self.temperature
        x = (attention.softmax(dim=-1) @ v).reshape(B, C, N)
        return self.proj(x.transpose(1, 2))


def _unit(x: Tensor) -> Tensor:
    """``x`` scaled to L2 norm 1 along the last axis; vectors shorter than 1e-12 stay near 0.

    The norm is computed at least in single precision: sums of squares overflow in half precision.
    """
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.normalize(precise, dim=-1, eps=1e-12).to(x.dtype)
