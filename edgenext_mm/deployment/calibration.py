"""Preprocessed images for calibration and comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ..datasets.image_pipeline import ImagePipeline
from ..runtime.sources import ImageSource, list_images
from .exported_model import fit_size


def normalised_images(
    model: nn.Module,
    sources: Iterable[ImageSource],
    shape: tuple[int, int],
    dynamic: Iterable[str] = (),
) -> Iterator[Tensor]:
    """Yields (1, C, H, W) images after a model's own preprocessing.

    Args:
        model: A model from :func:`~edgenext_mm.load_model`.
        sources: Images, as for :func:`~edgenext_mm.inference_model`.
        shape: (H, W) of the file's input in pixels; smaller images are padded.
        dynamic: Dimensions that may differ, of ``height`` and ``width``. Default: none.
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
    """Returns the number of channels of a model's images, from its first convolution."""
    return next(m.in_channels for m in model.backbone.modules() if isinstance(m, nn.Conv2d))


def default_images(channels: int = 3) -> list[ImageSource]:
    """Returns two photographs from scikit-learn.

    Args:
        channels: Number of channels; they repeat blue, green, red. Default: 3.
    """
    from sklearn.datasets import load_sample_images

    order: np.ndarray = 2 - np.arange(channels) % 3
    return [np.ascontiguousarray(image[..., order]) for image in load_sample_images().images]


def images_in(folder: str | Path | None, count: int, channels: int = 3) -> list[ImageSource]:
    """Returns up to ``count`` images of a folder, evenly spaced.

    Args:
        folder: Folder of images; None for :func:`default_images`.
        count: Maximum number of images.
        channels: Number of channels of the default images. Default: 3.
    """
    if folder is None:
        return default_images(channels)[:count]
    images = list_images(folder)
    return images[:: max(len(images) // count, 1)][:count]
