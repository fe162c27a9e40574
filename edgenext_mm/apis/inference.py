"""Inference on images with a model of any task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.utils import track_iter_progress
from torch import nn

from ..datasets.image_pipeline import ImagePipeline, source_name
from ..errors import UserError, caused_by
from ..runtime.results import Result
from ..runtime.sources import ImageSource, is_single, list_images
from ..runtime.tiling import cut_tiles, predict_tiles
from .features import features_of, recorded_maps
from .model import load_model
from .results import to_result

_FEATURES = 'backbone_features'


def inference_model(
    model: str | Path | Config | nn.Module,
    img: ImageSource | Iterable[ImageSource],
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 1,
    score_thr: float = 0.3,
    progress: bool = False,
    tile: int | None = None,
    overlap: float = 0.2,
    features: bool = False,
) -> Result | list[Result]:
    """Runs a model of any task on one image or many.

    Args:
        model: A model from :func:`~edgenext_mm.apis.model.load_model`, or what that function
            accepts: a config, its path, the name of a shipped config, or an exported file.
        img: An image file, URL, Pillow image or array (blue-green-red), a folder, or a list of
            them. The loading step of the config's test pipeline reads them, see
            :class:`~edgenext_mm.datasets.images.ImageReader`.
        checkpoint: Path or URL of the weights, if ``model`` is a config. Default: as for
            :func:`~edgenext_mm.apis.model.load_model`.
        device: Device to run on, if ``model`` is a config. Default: a GPU if there is one.
        batch_size: Number of images per forward pass. Images of different sizes are padded to the
            largest in the batch, which changes results slightly. Default: 1.
        score_thr: Minimum score of detected objects. Default: 0.3.
        progress: Whether to show a progress bar. Default: False.
        tile: Side in pixels of the tiles that large images are cut into, see
            :mod:`~edgenext_mm.runtime.tiling`. Default: None, whole images.
        overlap: Share of the side by which tiles overlap. Default: 0.2.
        features: Whether results have the features of the backbone, from the same forward pass. Not
            for tiles and exported files. Default: False.

    Returns:
        A dict for one image, a list of dicts for a folder or list; their keys are documented in
        :mod:`~edgenext_mm.runtime.results`. In a list, an image that cannot be read or processed
        has the result ``dict(error=REASON)``; the other images are not affected.

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
        outcome = next(_outcomes(model, images, batch_size, score_thr, tile, overlap, features))
        if isinstance(outcome, UserError):
            raise outcome
        return outcome
    results = iterate_results(model, images, batch_size, score_thr, tile, overlap, features)
    return list(track_iter_progress((results, len(images))) if progress else results)


def iterate_results(
    model: nn.Module,
    images: Iterable[ImageSource],
    batch_size: int = 1,
    score_thr: float = 0.3,
    tile: int | None = None,
    overlap: float = 0.2,
    features: bool = False,
) -> Iterator[Result]:
    """Yields the results of :func:`inference_model` for many images, batch by batch.

    While the model runs, a thread reads and transforms the next batch.

    Args:
        model: A model from :func:`~edgenext_mm.apis.model.load_model`.
        images: Images from :func:`~edgenext_mm.runtime.sources.list_images`, or the frames of a
            video, which may be endless.
        batch_size: Number of images per forward pass. Default: 1.
        score_thr: Minimum score of detected objects. Default: 0.3.
        tile: Side of tiles in pixels. Default: None, whole images.
        overlap: Share of the side by which tiles overlap. Default: 0.2.
        features: Whether results have the features of the backbone. Default: False.

    Yields:
        A result for each image, in order; ``dict(error=REASON)`` for images that fail.
    """
    for outcome in _outcomes(model, images, batch_size, score_thr, tile, overlap, features):
        yield dict(error=str(outcome)) if isinstance(outcome, UserError) else outcome


def _outcomes(
    model: nn.Module,
    images: Iterable[ImageSource],
    batch_size: int,
    score_thr: float,
    tile: int | None = None,
    overlap: float = 0.2,
    features: bool = False,
) -> Iterator[Result | UserError]:
    """Yields a result for each image, or the reason why there is none."""
    if batch_size < 1:
        raise UserError(f'`batch_size` is {batch_size!r}. Give a positive number of images.')
    if 'BaseRetriever' in _class_names(model):
        raise UserError(
            f'A {type(model).__name__} ranks the images of a gallery and predicts no classes. '
            'Use `model.test_step` or the ImageRetrievalInferencer of mmpretrain.'
        )
    pipeline = ImagePipeline(model.cfg)
    if tile is None:
        yield from _whole_images(model, pipeline, images, batch_size, score_thr, features)
        return
    if features:
        raise UserError('Images in tiles have no features. Give either `tile` or `features`.')
    cut_tiles((1, 1), tile, overlap)  # checks the settings

    def predict(parts: Sequence[np.ndarray]) -> Iterator[Result]:
        for outcome in _whole_images(model, pipeline, parts, batch_size, score_thr):
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome

    for source in images:
        try:
            yield predict_tiles(pipeline.read(source), tile, overlap, predict)
        except UserError as error:
            yield error


def _whole_images(
    model: nn.Module,
    pipeline: ImagePipeline,
    images: Iterable[ImageSource],
    batch_size: int,
    score_thr: float,
    features: bool = False,
) -> Iterator[Result | UserError]:
    head = getattr(getattr(model, 'shell', model), 'head', None)
    multi_label = 'MultiLabelClsHead' in _class_names(head)
    for sources, inputs in _prepared(pipeline, images, batch_size):
        samples = iter(_run(model, [item for item in inputs if isinstance(item, dict)], features))
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
                result = to_result(outcome, model.dataset_meta, score_thr, multi_label)
                yield result | outcome.metainfo.get(_FEATURES, {})


def _prepared(
    pipeline: ImagePipeline, images: Iterable[ImageSource], batch_size: int
) -> Iterator[tuple[Sequence[ImageSource], list[dict[str, Any] | UserError]]]:
    """Yields batches of images and model inputs; a thread prepares one batch ahead."""

    def prepare(sources: Sequence[ImageSource]) -> list[dict[str, Any] | UserError]:
        return [_or_error(pipeline, source) for source in sources]

    remaining = iter(images)
    sources = list(islice(remaining, batch_size))
    # One thread only: libraries switch global settings while they decode.
    with ThreadPoolExecutor(1, 'reading') as executor:
        try:
            waiting = executor.submit(prepare, sources)
            while sources:
                inputs = waiting.result()
                following = list(islice(remaining, batch_size))
                waiting = executor.submit(prepare, following)
                yield sources, inputs
                sources = following
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _or_error(pipeline: ImagePipeline, source: ImageSource) -> dict[str, Any] | UserError:
    try:
        return pipeline(source)
    except UserError as error:
        return error


def _run(model: nn.Module, inputs: Sequence[dict[str, Any]], features: bool) -> list[Any]:
    """Returns data samples with predictions, or the exception where the model fails."""
    if not inputs:
        return []
    try:
        with torch.inference_mode():
            if not features:
                return list(model.test_step(pseudo_collate(inputs)))
            with recorded_maps(model) as maps:
                samples = list(model.test_step(pseudo_collate(inputs)))
        for index, sample in enumerate(samples):
            sample.set_metainfo({_FEATURES: features_of(maps, index)})
        return samples
    except UserError:
        raise  # the model has no features
    except Exception as error:
        if len(inputs) == 1:
            return [error]
        # A single image may be the reason, such as one with another number of channels.
        return [sample for single in inputs for sample in _run(model, [single], features)]


def _class_names(part: object) -> set[str]:
    """Names of the classes of an object; comparing names needs no import of the task library."""
    return {kind.__name__ for kind in type(part).__mro__}
