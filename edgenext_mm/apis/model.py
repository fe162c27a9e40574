"""A trained model, ready to run: config, weights and classes together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from ..checkpoints.finding import find_checkpoint, read_checkpoint
from ..checkpoints.latest import find_best, find_latest
from ..checkpoints.zoo import CONFIG_ROOT, entries, find_model, find_weights
from ..errors import UserError
from ..models.fit import check_fit
from ..models.loading import check_weights, weights_of
from ..registry import type_name
from .cli import import_task_library, load_config, with_type_names
from .work_folder import warn_of_other_training, work_folder


def find_config(name: str | Path) -> Path:
    """The config file of a path, of a shipped config's name without ``.py``, or of a zoo model.

    Raises:
        UserError: If there is no such config; names those there are.
    """
    if Path(name).is_file():
        return Path(name)
    if str(name) in entries():
        return entries()[str(name)].config
    shipped = {p.stem: p for p in CONFIG_ROOT.glob('[!_]*/**/*.py')}
    if str(name) in shipped:
        return shipped[str(name)]
    raise UserError(
        f'{name!r} is neither a config file nor the name of a shipped config or a model of the '
        f'zoo. There are: {", ".join(sorted({*shipped, *entries()})) or "none"}.'
    )


def check_pretrained(model: Any, name: str = 'model') -> None:
    """Makes sure that the weights are there that the parts of a model's config start from.

    Raises:
        UserError: If one is not; says how to come by it, or do without.
    """
    for key, value in model.items() if isinstance(model, Mapping) else enumerate(model):
        if key == 'init_cfg' and isinstance(value, Mapping) and value['type'] == 'Pretrained':
            try:
                find_checkpoint(value['checkpoint'])
            except UserError as error:
                raise UserError(
                    f'{name} starts from the weights {value["checkpoint"]}, which are not there. '
                    f'{error} Others go with --cfg-options {name}.init_cfg.checkpoint=FILE, and '
                    f'training from scratch with --cfg-options {name}.init_cfg=None.'
                ) from error
        elif isinstance(value, (Mapping, list)):
            check_pretrained(value, f'{name}.{key}')


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
        from ..deployment import ExportedModel  # which needs this module
        from ..deployment.formats import format_of

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


def build_model(config: Config) -> nn.Module:
    """The model of a config, its weights not yet loaded.

    Raises:
        UserError: If its parts do not fit together.
    """
    config = deepcopy(config)  # building adds to it
    import_task_library(config.get('default_scope'))
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = config.model
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    built = MODELS.build(model)
    check_fit(built, config)
    return built


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


def input_shape(config: Config) -> tuple[int, int]:
    """(H, W) of the largest input that a config's evaluation gives the model.

    Raises:
        UserError: If its test pipeline resizes to no size that it names.
    """
    preprocessor = config.get('data_preprocessor') or config.model.data_preprocessor
    settings = config.model.get('test_cfg') or {}
    if settings.get('mode') == 'slide':
        return tuple(settings['crop_size'])
    # mmseg's `size` is that of training; testing has settings of its own.
    testing = preprocessor.get('test_cfg') or {}
    if testing.get('size') is not None:
        return testing['size']
    steps = [
        step
        for step in config.test_dataloader.dataset.pipeline
        if type_name(step.type) in ('CenterCrop', 'Resize')
    ]
    sizes = [step.get('crop_size') or step.get('scale') for step in steps]
    if not any(sizes):
        raise UserError(
            'The test pipeline of this config keeps the size of images: it has no Resize with a '
            '`scale` and no CenterCrop. Say how large the input is: --shape H W; with --dynamic '
            'height,width it is an example.'
        )
    size = next(size for size in reversed(sizes) if size)
    width, height = (size, size) if isinstance(size, int) else size
    divisor = testing.get('size_divisor') or preprocessor.get('pad_size_divisor') or 1
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor
