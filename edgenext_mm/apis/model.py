"""A trained model, ready to run: config, weights and classes together."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import find_latest_checkpoint
from torch import nn

from ..errors import UserError
from ..models.fit import check_fit
from ..models.loading import check_weights, read_checkpoint
from .cli import load_config

CONFIG_ROOTS = (
    Path(__file__).parents[2] / 'configs',  # a clone
    Path(__file__).parents[1] / '.mim' / 'configs',  # an installed wheel
)


def find_config(name: str | Path) -> Path:
    """The config file of a path, or of a shipped config's name without ``.py``.

    Raises:
        UserError: If there is no such config; names those whose names are near.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = {p.stem: p for root in CONFIG_ROOTS for p in root.glob('[!_]*/**/*.py')}
    if str(name) in shipped:
        return shipped[str(name)]
    raise UserError(
        f'{name!r} is neither a config file nor the name of a shipped config. Shipped: '
        f'{", ".join(sorted(shipped)) or "none"}.'
    )


def check_pretrained(model: Any, name: str = 'model') -> None:
    """Makes sure that the weights are there that the parts of a model's config start from.

    Raises:
        UserError: If one is not; says how to come by it, or do without.
    """
    for key, value in model.items() if isinstance(model, Mapping) else enumerate(model):
        if key == 'init_cfg' and isinstance(value, Mapping) and value['type'] == 'Pretrained':
            checkpoint = value['checkpoint']
            if '://' not in checkpoint and not Path(checkpoint).is_file():
                raise UserError(
                    f'{name} starts from the weights in {checkpoint}, which is not there. Make it '
                    "from the authors' with tools/model_converters/convert_checkpoint.py, or "
                    f'train the classifier, or give --cfg-options {name}.init_cfg.checkpoint=FILE, '
                    f'or start from scratch with --cfg-options {name}.init_cfg=None.'
                )
        elif isinstance(value, (Mapping, list)):
            check_pretrained(value, f'{name}.{key}')


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Builds a model in evaluation mode, with its weights.

    Args:
        config: A config, its path, or the name of a shipped one.
        checkpoint: Path or URL of the weights. Default: ``load_from`` of the config, else the
            latest checkpoint in the config's work folder, ``work_dirs/NAME``.
        device: Default: the first GPU where there is one, else the CPU.

    Returns:
        The model, with ``cfg`` (the config) and ``dataset_meta`` (with ``classes``, where the
        checkpoint or the config knows them).

    Raises:
        UserError: If config or weights are not there or do not fit together.
    """
    if not isinstance(config, Config):
        config = load_config(find_config(config))
    checkpoint = checkpoint or config.get('load_from') or _latest_checkpoint(config)
    content = read_checkpoint(checkpoint)
    state_dict = content.get('state_dict', content)
    model = build_model(config)
    check_weights(model, state_dict, str(checkpoint))
    model.load_state_dict(state_dict)

    model.cfg = config
    model.dataset_meta = content.get('meta', {}).get('dataset_meta') or _dataset_meta(config)
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return model.to(device).eval()


def build_model(config: Config) -> nn.Module:
    """The model of a config, its weights not yet loaded.

    Raises:
        UserError: If its parts do not fit together.
    """
    config = deepcopy(config)  # building adds to it
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = config.model
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    built = MODELS.build(model)
    check_fit(built)
    return built


def _dataset_meta(config: Config) -> dict[str, Any]:
    """What the class of the config's data set knows, such as the names of ImageNet's classes."""
    dataset = config.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
        known = getattr(datasets.get(dataset['type']), 'METAINFO', {})
    return {k.lower(): v for k, v in {**known, **dataset.get('metainfo', {})}.items()}


def _latest_checkpoint(config: Config) -> str:
    name = Path(config.filename).stem if config.filename else 'CONFIG'
    folder = Path(config.get('work_dir') or Path('work_dirs') / name)
    latest = find_latest_checkpoint(str(folder)) if folder.is_dir() else None
    if latest is None:
        raise UserError(
            f'No weights for {name}: give --checkpoint (or `checkpoint`) a path or URL, set '
            f'`load_from` in the config, or train it; {folder} holds no checkpoint.'
        )
    return latest
