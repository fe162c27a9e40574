"""From images to results, for a model of any task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from torch import nn

from ..errors import UserError
from .images import ImageSource, is_single, list_images, read_image
from .model import load_model
from .results import Result, to_result

#: Transforms of a test pipeline that read what inference has in memory, or does not have.
LOADERS = ('LoadImageFromFile', 'LoadAnnotations')
#: How many times longer than wide an image may be, or wider than long. Beyond, resizing makes its
#: sides vanish, or its area enormous.
MAX_ELONGATION = 100


def inference_model(
    model: str | Path | Config | nn.Module,
    img: ImageSource | Iterable[ImageSource],
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 1,
    score_thr: float = 0.3,
    progress: bool = False,
) -> Result | list[Result]:
    """Runs a model of any task on one image or many.

    Args:
        model: A model of :func:`~edgenext_mm.apis.model.load_model`, or what that takes: a
            config, its path, or the name of a shipped one.
        img: An image file, URL, Pillow image or array (blue-green-red), a folder, or a list of
            them; see :func:`~edgenext_mm.apis.images.read_image`.
        checkpoint: Path or URL of the weights, unless ``model`` is one with weights.
        device: Where to run, unless ``model`` is one already. Default: a GPU if there is one.
        batch_size: Images per forward pass; pipelines that keep sizes need 1. Default: 1.
        score_thr: Detected objects of lower scores are left out. Default: 0.3.
        progress: Whether to show a progress bar. Default: False.

    Returns:
        For one image a dict, for a folder or list a list of dicts; their keys, by task, are
        those of :mod:`~edgenext_mm.apis.results`.

    Raises:
        UserError: If model, weights or an image cannot be read or do not fit, or ``batch_size`` is
            not positive.

    Example:
        >>> inference_model('edgenext-xxsmall_digits', 'digit.png')['pred_class']  # doctest: +SKIP
        '7'
    """
    if batch_size < 1:
        raise UserError(f'batch_size is at least 1, got {batch_size}.')
    if not isinstance(model, nn.Module):
        model = load_model(model, checkpoint, device)
    images = list_images(img)
    pipeline = build_pipeline(model.cfg)
    chunks = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    results: list[Result] = []
    for chunk in track_iter_progress(chunks) if progress else chunks:
        data = pseudo_collate([pipeline(to_sample(source)) for source in chunk])
        with torch.inference_mode():
            samples = model.test_step(data)
        results.extend(to_result(sample, model.dataset_meta, score_thr) for sample in samples)
    return results[0] if is_single(img) else results


def build_pipeline(config: Config) -> Compose:
    """The test pipeline, less the loading of files."""
    init_default_scope(config.get('default_scope', 'mmengine'))
    transforms = config.test_dataloader.dataset.pipeline
    return Compose([t for t in transforms if t['type'].split('.')[-1] not in LOADERS])


def to_sample(source: ImageSource) -> dict[str, Any]:
    """What a loading transform leaves to the next one.

    Raises:
        UserError: If it cannot be read as an image, or that is too long or too wide to be resized.
    """
    image = read_image(source)
    path = str(source) if isinstance(source, (str, Path)) else ''
    size = image.shape[:2]
    if max(size) > MAX_ELONGATION * min(size):
        raise UserError(
            f'{path or "An image"} is {size[1]} pixels wide and {size[0]} high; the longer side '
            f'may be up to {MAX_ELONGATION} times the shorter. Cut it up.'
        )
    return dict(img=image, img_path=path, img_shape=size, ori_shape=size)
