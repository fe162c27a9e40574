"""Loading of trained models: config, weights and classes."""

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
from ..checkpoints.hub import hub_config, is_hub_address
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
    threads: int | None = None,
) -> nn.Module:
    """Builds a model in evaluation mode, with its weights.

    Args:
        config: A config, its path, the name of a shipped config or of a model of the zoo,
            ``hf://OWNER/NAME`` for a model of this package on the Hugging Face Hub, or a file from
            ``tools/deployment/export.py``, which needs no checkpoint.
        checkpoint: Path, URL or zoo name of the weights. Default: the published weights of a model
            of the zoo; otherwise the best checkpoint in the work folder of the config,
            ``work_dirs/NAME``, or else the latest one there. The ``load_from`` of the config is
            not used: training starts from it.
        device: Device of the model. Default: the first GPU if there is one, else the CPU.
        threads: Number of CPU threads of an exported file; those of PyTorch are a setting of the
            process. Default: the choice of the runtime.

    Returns:
        The model, with the attributes ``cfg`` (the config) and ``dataset_meta`` (which contains
        ``classes`` if the checkpoint or the config names them).

    Raises:
        UserError: If config or weights are missing or do not fit together.
    """
    if not isinstance(config, Config):
        from ..deployment import ExportedModel
        from ..runtime.formats import format_of

        if format_of(config):
            return ExportedModel(config, threads)
        if is_hub_address(config):
            checkpoint = checkpoint or str(config)
            config = hub_config(str(config))
        else:
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
    model.to(device)
    model.eval()  # that of some detectors returns None
    return model


def get_model(
    name: str,
    pretrained: bool = True,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> nn.Module:
    """Creates a model of the zoo.

    Args:
        name: Name of the model, see :func:`~edgenext_mm.checkpoints.zoo.list_models`.
        pretrained: Whether to load the published weights, which are downloaded once, and switch to
            evaluation mode. Default: True.
        device: Device of the model. Default: with weights, the first GPU if there is one; else the
            CPU.
        **overrides: Settings that override those of the config's model, such as
            ``backbone=dict(out_indices=(1, 2, 3))``.

    Raises:
        UserError: If there is no such model, or no published weights for it.
    """
    config = load_config(find_model(name).config, dict(model=overrides) if overrides else None)
    if pretrained:
        return load_model(config, find_weights(name), device)
    return build_model(config).to(device or 'cpu')


def _dataset_meta(config: Config) -> dict[str, Any]:
    """Returns the metadata of the config's data set class, such as the classes of ImageNet."""
    dataset = config.test_dataloader.dataset
    kind = dataset['type']
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
            kind = datasets.get(kind)
    known = getattr(kind, 'METAINFO', {})
    return {k.lower(): v for k, v in {**known, **dataset.get('metainfo', {})}.items()}


def published_weights(name: str | Path) -> str | None:
    """Returns the zoo name of a model with published weights; None for anything else."""
    entry = entries().get(str(name))
    return entry.name if entry and entry.sources else None


def _trained_checkpoint(config: Config) -> str:
    """Returns the best or latest checkpoint in the work folder of a config."""
    folder = work_folder(config)
    trained = find_best(folder) or find_latest(folder)
    if trained is None:
        name = Path(config.filename).stem if config.filename else 'CONFIG'
        start = config.get('load_from')
        raise UserError(
            f'No weights for {name}: {folder} holds no checkpoint. Give a path or URL as '
            '--checkpoint (in Python: `checkpoint`), or train the model first.'
            + f' The `load_from` of the config, {start}, is only used by training.'
            * bool(start)
        )
    warn_of_other_training(config)
    return trained


def _meta_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = content.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def _describe(checkpoint: str | Path, content: Mapping[str, Any]) -> str:
    """Describes the weights that are used: their file, and the epoch and metric if known."""
    meta = _meta_of(content)
    facts = [f'{key} {meta[key]}' for key in ('epoch', 'iter') if key in meta]
    if found := re.fullmatch(r'best_(.+)_(?:epoch|iter)_\d+\.pth', Path(checkpoint).name):
        facts.append(f'best {found[1]}')
    return f'Weights: {checkpoint}' + f' ({", ".join(facts)})' * bool(facts)
