"""Images as a model sees them, to calibrate and to compare on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ..datasets.image_pipeline import ImagePipeline
from ..datasets.images import ImageSource, list_images
from .exported_model import fit_size


def normalised_images(
    model: nn.Module,
    sources: Iterable[ImageSource],
    shape: tuple[int, int],
    dynamic: Iterable[str] = (),
) -> Iterator[Tensor]:
    """(1, C, H, W) images after a model's own preprocessing.

    Args:
        model: Of :func:`~edgenext_mm.load_model`.
        sources: See :func:`~edgenext_mm.inference_model`.
        shape: (H, W) that a file takes; smaller images are padded.
        dynamic: Which of ``height`` and ``width`` may be other.
    """
    pipeline = ImagePipeline(model.cfg)
    preprocessor = model.data_preprocessor
    pads = not hasattr(model, 'head')
    value = getattr(preprocessor, 'pad_value', 0)
    for source in sources:
        data = preprocessor(pseudo_collate([pipeline(source)]), False)
        inputs = data['inputs']
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        yield fit_size(images.cpu(), shape, tuple(dynamic), pads, value)


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: those of its first convolution."""
    return next(m.in_channels for m in model.backbone.modules() if isinstance(m, nn.Conv2d))


def default_images(channels: int = 3) -> list[ImageSource]:
    """Two photographs that come with scikit-learn, (H, W, channels) in the order blue, green, red,
    blue and so on."""
    from sklearn.datasets import load_sample_images

    order: np.ndarray = 2 - np.arange(channels) % 3
    return [np.ascontiguousarray(image[..., order]) for image in load_sample_images().images]


def images_in(folder: str | Path | None, count: int, channels: int = 3) -> list[ImageSource]:
    """Up to ``count`` images of a folder, evenly spread; without a folder, the default ones."""
    if folder is None:
        return default_images(channels)[:count]
    images = list_images(folder)
    step = max(len(images) // count, 1)
    return images[::step][:count]
