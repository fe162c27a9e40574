"""Features of a model's backbone, recorded while the model predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..errors import UserError
from ..runtime.results import Result


@contextmanager
def recorded_maps(model: nn.Module) -> Iterator[list[Tensor]]:
    """Records what the backbone of a model returns, in the list that it gives.

    Args:
        model: A model of OpenMMLab. The list holds the outputs of its last call.

    Raises:
        UserError: If the model has no backbone.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise UserError(
            f'A {type(model).__name__} gives no features: it has no `backbone`. Use a config and a '
            'checkpoint instead of an exported file.'
        )
    maps: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, outputs: Tensor | Sequence[Tensor]) -> None:
        maps[:] = [outputs] if isinstance(outputs, Tensor) else outputs

    handle = backbone.register_forward_hook(record)
    try:
        yield maps
    finally:
        handle.remove()


def features_of(maps: Sequence[Tensor], index: int) -> Result:
    """Returns the features of one image.

    Args:
        maps: Outputs of the backbone: (B, C, H, W) maps, or a (B, C) feature at the end.
        index: Index of the image in the batch.

    Returns:
        The key ``features``, (C,): the pooled feature of a classifier, or the mean of the last map;
        with maps also ``feature_maps``, a list of (C, H, W).
    """
    arrays = [value[index].float().cpu().numpy() for value in maps]
    last = arrays[-1]
    if last.ndim == 1:
        return dict(features=last)
    return dict(features=last.mean((1, 2)), feature_maps=arrays)
