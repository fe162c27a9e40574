"""Activation checkpointing."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, its activations computed anew in the backward pass instead of kept.

    Running statistics of BatchNorm see each batch once, as without recomputation.
    """
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _kept_statistics(module)),
    )


@contextmanager
def _kept_statistics(module: nn.Module) -> Iterator[None]:
    """Lets BatchNorm update copies of its statistics, for as long as it lasts."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [norm._buffers for norm in norms]
    for norm in norms:
        norm._buffers = {
            name: None if buffer is None else buffer.clone()
            for name, buffer in norm._buffers.items()
        }
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers = buffers
