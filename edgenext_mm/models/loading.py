"""Checkpoint files: reading them, and whether their weights are those of a model."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..errors import UserError
from .backbones import EdgeNeXt
from .checkpoint import check_arch


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


def check_archs(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Refuses weights whose EdgeNeXt is of another arch than the model's.

    Raises:
        UserError: Names both.
    """
    for name, module in model.named_modules():
        if isinstance(module, EdgeNeXt):
            check_arch(state_dict, f'{name}.' if name else '', module)


def check_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Makes sure that weights are all those of a model, before they are loaded.

    Raises:
        UserError: If names or shapes differ; names the first ones and the way out.
    """
    check_archs(model, state_dict)
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
