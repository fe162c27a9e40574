"""A trained model, ready to run: config, weights and classes together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from torch import nn

from ..checkpoints.finding import read_checkpoint
from ..checkpoints.latest import find_best, find_latest
from ..checkpoints.zoo import entries, find_config, find_model, find_weights
from ..config import load_config, with_type_names
from ..engine.work_folder import warn_of_other_training, work_folder
from ..errors import UserError
from ..models.building import build_model
from ..models.loading import check_weights, weights_of


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Builds a model in evaluation mode, with its weights.

    Args:
        config: A config, its path, the name of a shipped one or of a model of the zoo, or a file
            that ``tools/deployment/export.py`` wrote, which needs no checkpoint.
        checkpoint: Path, URL or zoo name of the weights. Default: the published ones of a model of
            the zoo, else the best checkpoint in the config's work folder, ``work_dirs/NAME``, else
            the latest one there. ``load_from`` of the config, with which training starts, does
            not count.
        device: Default: the first GPU where there is one, else the CPU.

    Returns:
        The model, with ``cfg`` (the config) and ``dataset_meta`` (with ``classes``, where the
        checkpoint or the config knows them).

    Raises:
        UserError: If config or weights are not there or do not fit together.
    """
    if not isinstance(config, Config):
        from ..deployment import ExportedModel
        from ..deployment.file_formats import format_of

        if format_of(config):
            return ExportedModel(config)
        checkpoint = checkpoint or published_weights(config)
        config = load_config(find_config(config))
    config = with_type_names(config)
    checkpoint = checkpoint or _trained_checkpoint(config)
    content = read_checkpoint(checkpoint)
    print_log(_describe(checkpoint, content), 'current')
    model = build_model(config)
    weights = weights_of(content, model)
    check_weights(model, weights, str(checkpoint))
    model.load_state_dict(weights)

    model.cfg = config
    model.dataset_meta = _meta_of(content).get('dataset_meta') or _dataset_meta(config)
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return model.to(device).eval()


def get_model(
    name: str,
    pretrained: bool = True,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> nn.Module:
    """A model of the zoo.

    Args:
        name: See :func:`~edgenext_mm.checkpoints.zoo.list_models`.
        pretrained: Whether to load its published weights, downloaded once, and prepare it for
            inference. Default: True.
        device: Default: with weights the first GPU where there is one, else the CPU.
        **overrides: Settings of the model that override the config's, such as
            ``backbone=dict(out_indices=(1, 2, 3))``.

    Raises:
        UserError: If there is no such model, or weights are wanted that nobody has published.
    """
    config = load_config(find_model(name).config, dict(model=overrides) if overrides else None)
    if pretrained:
        return load_model(config, find_weights(name), device)
    return build_model(config).to(device or 'cpu')


def _dataset_meta(config: Config) -> dict[str, Any]:
    """What the class of the config's data set knows, such as the names of ImageNet's classes."""
    dataset = config.test_dataloader.dataset
    kind = dataset['type']
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
            kind = datasets.get(kind)
    known = getattr(kind, 'METAINFO', {})
    return {k.lower(): v for k, v in {**known, **dataset.get('metainfo', {})}.items()}


def published_weights(name: str | Path) -> str | None:
    """The name under which the zoo has weights of a model, if it is one of the zoo and has any."""
    entry = entries().get(str(name))
    return entry.name if entry and entry.sources else None


def _trained_checkpoint(config: Config) -> str:
    """The checkpoint to use of those that a training by the config has left."""
    folder = work_folder(config)
    trained = find_best(folder) or find_latest(folder)
    if trained is None:
        name = Path(config.filename).stem if config.filename else 'CONFIG'
        start = config.get('load_from')
        raise UserError(
            f'No weights for {name}: give --checkpoint (or `checkpoint`) a path or URL, or train '
            f'it; {folder} holds no checkpoint.'
            + (f' `load_from` of the config, {start}, is what training starts from.' * bool(start))
        )
    warn_of_other_training(config)
    return trained


def _meta_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = content.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def _describe(checkpoint: str | Path, content: Mapping[str, Any]) -> str:
    """Which weights are used, and how they came about."""
    meta = _meta_of(content)
    facts = [f'{key} {meta[key]}' for key in ('epoch', 'iter') if key in meta]
    if found := re.fullmatch(r'best_(.+)_(?:epoch|iter)_\d+\.pth', Path(checkpoint).name):
        facts.append(f'the best by {found[1]}')
    return f'Weights: {checkpoint}' + f' ({", ".join(facts)})' * bool(facts)
