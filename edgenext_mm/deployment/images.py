"""Images as a model sees them, to calibrate and to compare on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ..apis.images import ImageSource, list_images
from ..apis.inference import build_pipeline, to_sample
from .runner import fit_size


def normalised_images(
    model: nn.Module,
    sources: Iterable[ImageSource],
    shape: tuple[int, int],
    dynamic: Iterable[str] = (),
) -> Iterator[Tensor]:
    """(1, 3, H, W) images after a model's own preprocessing.

    Args:
        model: Of :func:`~edgenext_mm.load_model`.
        sources: See :func:`~edgenext_mm.inference_model`.
        shape: (H, W) that a file takes; smaller images are padded.
        dynamic: Which of ``height`` and ``width`` may be other.
    """
    pipeline = build_pipeline(model.cfg)
    preprocessor = model.data_preprocessor
    pads = not hasattr(model, 'head')
    value = getattr(preprocessor, 'pad_value', 0)
    for source in sources:
        data = preprocessor(pseudo_collate([pipeline(to_sample(source))]), False)
        inputs = data['inputs']
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        yield fit_size(images.cpu(), shape, tuple(dynamic), pads, value)


def default_images() -> list[ImageSource]:
    """Two photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    return [image[:, :, ::-1].copy() for image in load_sample_images().images]


def images_in(folder: str | Path | None, count: int) -> list[ImageSource]:
    """Up to ``count`` images of a folder, evenly spread; without a folder, the default ones."""
    if folder is None:
        return default_images()[:count]
    images = list_images(folder)
    step = max(len(images) // count, 1)
    return images[::step][:count]
