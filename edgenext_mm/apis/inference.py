"""From images to results, for a model of any task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.utils import track_iter_progress
from torch import nn

from ..datasets.image_pipeline import ImagePipeline, source_name
from ..datasets.images import ImageSource, is_single, list_images
from ..errors import UserError, caused_by
from .model import load_model
from .results import Result, to_result


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
            them. They are read by the loading step of the config's test pipeline; see
            :class:`~edgenext_mm.datasets.images.ImageReader`.
        checkpoint: Path or URL of the weights, unless ``model`` is one with weights.
        device: Where to run, unless ``model`` is one already. Default: a GPU if there is one.
        batch_size: Images per forward pass; pipelines that keep sizes need 1. Default: 1.
        score_thr: Detected objects of lower scores are left out. Default: 0.3.
        progress: Whether to show a progress bar. Default: False.

    Returns:
        For one image a dict, for a folder or list a list of dicts; their keys, by task, are
        those of :mod:`~edgenext_mm.apis.results`. In a list, the result of an image that cannot be
        read or processed is ``dict(error=REASON)``; the others keep theirs.

    Raises:
        UserError: If the model or its weights cannot be read, a single image cannot be read or
            processed, none of the sources is an image, or ``batch_size`` is not positive.

    Example:
        >>> inference_model('edgenext-xxsmall_digits', 'digit.png')['pred_class']  # doctest: +SKIP
        '7'
    """
    images = list_images(img)
    if not isinstance(model, nn.Module):
        model = load_model(model, checkpoint, device)
    if is_single(img):
        outcome = next(_outcomes(model, images, batch_size, score_thr))
        if isinstance(outcome, UserError):
            raise outcome
        return outcome
    results = iterate_results(model, images, batch_size, score_thr)
    return list(track_iter_progress((results, len(images))) if progress else results)


def iterate_results(
    model: nn.Module, images: Sequence[ImageSource], batch_size: int = 1, score_thr: float = 0.3
) -> Iterator[Result]:
    """The results of :func:`inference_model` for many images, as they come.

    Args:
        model: Of :func:`~edgenext_mm.apis.model.load_model`.
        images: Of :func:`~edgenext_mm.datasets.images.list_images`.
        batch_size: Images per forward pass. Default: 1.
        score_thr: Detected objects of lower scores are left out. Default: 0.3.

    Yields:
        A result for each image, in order; ``dict(error=REASON)`` where there is none.
    """
    for outcome in _outcomes(model, images, batch_size, score_thr):
        yield dict(error=str(outcome)) if isinstance(outcome, UserError) else outcome


def _outcomes(
    model: nn.Module, images: Sequence[ImageSource], batch_size: int, score_thr: float
) -> Iterator[Result | UserError]:
    """A result for each image, or the error that says why there is none."""
    if batch_size < 1:
        raise UserError(f'batch_size is at least 1, got {batch_size}.')
    check_task(model)
    pipeline, multi_label = ImagePipeline(model.cfg), is_multi_label(model)
    for start in range(0, len(images), batch_size):
        sources = images[start : start + batch_size]
        inputs = [_or_error(pipeline, source) for source in sources]
        good = [item for item in inputs if isinstance(item, dict)]
        samples = iter(_run(model, good))
        for source, item in zip(sources, inputs, strict=True):
            if isinstance(item, UserError):
                yield item
                continue
            outcome = next(samples)
            if isinstance(outcome, Exception):
                shape = tuple(item['inputs'].shape)
                yield caused_by(
                    outcome,
                    f'The model cannot process {source_name(source)}, an input of {shape} '
                    f'after the pipeline',
                )
            else:
                yield to_result(outcome, model.dataset_meta, score_thr, multi_label)


def _or_error(pipeline: ImagePipeline, source: ImageSource) -> dict[str, Any] | UserError:
    try:
        return pipeline(source)
    except UserError as error:
        return error


def _run(model: nn.Module, inputs: Sequence[dict[str, Any]]) -> list[Any]:
    """Data samples with a model's predictions; where it fails for an image, the exception."""
    if not inputs:
        return []
    try:
        with torch.inference_mode():
            return list(model.test_step(pseudo_collate(inputs)))
    except Exception as error:
        if len(inputs) == 1:
            return [error]
        # One image may be at fault, such as one of another number of channels.
        return [sample for single in inputs for sample in _run(model, [single])]


def is_multi_label(model: nn.Module) -> bool:
    """Whether a classifier gives each image any number of labels."""
    return 'MultiLabelClsHead' in _kinds(getattr(getattr(model, 'shell', model), 'head', None))


def check_task(model: nn.Module) -> None:
    """Makes sure that a model's predictions are not of a kind that looks like another.

    Raises:
        UserError: If they are.
    """
    if 'BaseRetriever' in _kinds(model):
        raise UserError(
            f'A {type(model).__name__} ranks the images of a gallery; it has no classes to give. '
            'Use `model.test_step` or the ImageRetrievalInferencer of mmpretrain.'
        )


def _kinds(part: object) -> set[str]:
    return {kind.__name__ for kind in type(part).__mro__}
