"""Embeddings of images, and the most similar images by them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from ..errors import UserError
from ..runtime.sources import ImageSource, list_images
from .inference import iterate_results
from .model import load_model


class Neighbour(NamedTuple):
    """An image that is similar to a query.

    Args:
        image: The image.
        similarity: Cosine of the angle between both embeddings, at most 1.
    """

    image: ImageSource
    similarity: float


def embeddings(
    model: str | Path | Config | nn.Module,
    images: ImageSource | Iterable[ImageSource],
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes the feature vectors of images, which the classes are computed from.

    Args:
        model: As for :func:`~edgenext_mm.inference_model`. The classes do not matter.
        images: As for :func:`~edgenext_mm.inference_model`.
        checkpoint: Path, URL or name of the weights, if ``model`` is a config. Default: as for
            :func:`~edgenext_mm.load_model`.
        device: Device to run on, if ``model`` is a config. Default: a GPU if there is one.
        batch_size: Number of images per forward pass. Default: 32.

    Returns:
        (N, C) float32 array, in the order of the images; not normalised.

    Raises:
        UserError: If an image cannot be read or processed, or the model has no backbone.

    Example:
        >>> embeddings('edgenext-xxsmall_digits', 'digits/').shape  # doctest: +SKIP
        (1797, 168)
    """
    if not isinstance(model, nn.Module):
        model = load_model(model, checkpoint, device)
    vectors = []
    for result in iterate_results(model, list_images(images), batch_size, features=True):
        if 'error' in result:
            raise UserError(result['error'])
        vectors.append(result['features'])
    return np.stack(vectors)


def nearest_images(
    model: nn.Module,
    queries: ImageSource | Iterable[ImageSource],
    gallery: ImageSource | Iterable[ImageSource],
    count: int = 5,
    batch_size: int = 32,
) -> list[list[Neighbour]]:
    """Finds the images of a gallery that are most similar to each query.

    Args:
        model: A model from :func:`~edgenext_mm.load_model`.
        queries: Images to search for.
        gallery: Images to search in.
        count: Number of images for each query. Default: 5.
        batch_size: Number of images per forward pass. Default: 32.

    Returns:
        For each query, the most similar images first.

    Raises:
        UserError: If ``count`` is not positive, or as for :func:`embeddings`.
    """
    if count < 1:
        raise UserError(f'`count` is {count!r}. Give a positive number of images.')
    images = list_images(gallery)
    index = _unit_length(embeddings(model, images, batch_size=batch_size))
    similarities = _unit_length(embeddings(model, queries, batch_size=batch_size)) @ index.T
    best = np.argsort(-similarities, axis=1, kind='stable')[:, :count]
    return [
        [Neighbour(images[i], float(row[i])) for i in order]
        for row, order in zip(similarities, best, strict=True)
    ]


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
