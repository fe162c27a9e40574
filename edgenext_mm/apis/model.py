"""A trained model, ready to run: config, weights and classes together."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..errors import UserError
from ..models import EdgeNeXt
from ..models.checkpoint import check_arch
from ..models.fit import check_fit
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


def find_checkpoint(checkpoint: str | Path) -> str:
    """Checks that a checkpoint is a URL or an existing file, and returns it.

    Raises:
        UserError: If it is neither.
    """
    if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
        raise UserError(
            f'There is no checkpoint {checkpoint}. Give the path or URL of a .pth file; '
            'tools/train.py leaves them in its work folder.'
        )
    return str(checkpoint)


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


def read_checkpoint(checkpoint: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file.

    Args:
        checkpoint: Path or URL.

    Raises:
        UserError: If it is not there or cannot be read.
    """
    path = find_checkpoint(checkpoint)
    try:
        # The authors' files hold the command line of their training.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent')
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f'{path} cannot be read as a PyTorch checkpoint; it may be cut short. ({error})'
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__}, not a checkpoint.')
    return dict(content)


def check_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Makes sure that weights are all those of a model, before they are loaded.

    Raises:
        UserError: If names or shapes differ; names the first ones and the way out.
    """
    for name, module in model.named_modules():
        if isinstance(module, EdgeNeXt):
            check_arch(state_dict, f'{name}.' if name else '', module)
    own = model.state_dict()
    missing = sorted(own.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - own.keys())
    shapes = [
        f'{k} ({tuple(state_dict[k].shape)} there, {tuple(own[k].shape)} here)'
        for k in own
        if k in state_dict and state_dict[k].shape != own[k].shape
    ]
    if missing or unexpected or shapes:
        raise UserError(
            f'The weights in {source} are not those of this model. '
            f'Missing: {_first(missing)}. Unexpected: {_first(unexpected)}. '
            f'Of other shape: {_first(shapes)}. Give the config that the checkpoint was trained '
            "with; files in the authors' format need tools/model_converters/convert_checkpoint.py "
            'first.'
        )


def _first(names: list[str], count: int = 3) -> str:
    rest = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + rest if names else 'none'


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
