"""Finds and reads the checkpoint with a given name, URL or path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.fileio import get

from ..errors import UserError
from ..registry import type_name
from .download import fetch
from .hub import PREFIX, hub_file, is_hub_address
from .reading import read_file
from .zoo import find_weights, list_models

_EXAMPLE = "dict(type='Pretrained', checkpoint='FILE')"


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Returns the file of a checkpoint, and downloads it if it is not in the cache.

    Args:
        checkpoint: Path, URL, name of a model in the zoo with published weights, or
            ``hf://OWNER/NAME`` for a model on the Hugging Face Hub.

    Raises:
        UserError: If it does not exist or cannot be downloaded.
    """
    name = str(checkpoint)
    if name.startswith(('http://', 'https://')):
        return fetch([name])
    if is_hub_address(name):
        return hub_file(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in list_models():
        return find_weights(name)
    raise UserError(
        f'There is no checkpoint {name}. Give the path or URL of a .pth or .safetensors file '
        '(tools/train.py writes them to its work folder), hf://OWNER/NAME for a model on the '
        'Hugging Face Hub, or the name of a model with published '
        f'weights: {", ".join(list_models(pretrained=True))}.'
    )


def read_checkpoint(checkpoint: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Reads a checkpoint.

    Args:
        checkpoint: See :func:`find_checkpoint`, or an address for one of mmengine's file backends,
            such as ``s3://bucket/file.pth``.
        map_location: Device of the tensors, as for ``torch.load``. Default: the CPU.

    Raises:
        UserError: If it does not exist or cannot be read.
    """
    name = str(checkpoint)
    if '://' not in name or name.startswith(('http://', 'https://', PREFIX)):
        return read_file(find_checkpoint(checkpoint), map_location)
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as copy:
        copy.write(get(name))
        copy.flush()
        return read_file(copy.name, map_location)


def pretrained_settings(init_cfg: Any) -> list[Mapping[str, Any]]:
    """Returns the entries of an ``init_cfg`` that load weights from a file.

    Args:
        init_cfg: A dict, a list of them or None. The type may be the name ``Pretrained``, with or
            without a scope, or mmengine's class.
    """
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    names = ('Pretrained', 'PretrainedInit')
    return [e for e in entries if isinstance(e, Mapping) and type_name(e.get('type')) in names]


def check_pretrained(model: Any, name: str = 'model') -> None:
    """Checks the ``Pretrained`` weights in the config of a model, and downloads them.

    mmengine loads those of parts that are no EdgeNeXt, and would run code in an unsafe file, or
    ignore weights under other names. Files that cannot be read safely are refused here, and so are
    weights for the complete model, which ``load_from`` loads.

    Args:
        model: Config of the model or of a part of it.
        name: Path of ``model`` in the full config, for messages. Default: ``'model'``.

    Raises:
        UserError: If weights are missing, cannot be read safely, or belong into ``load_from``.
    """
    if isinstance(model, Mapping):
        for setting in pretrained_settings(model.get('init_cfg')):
            _check_pretrained(model, setting, name)
        if name == 'model' and model.get('pretrained'):
            raise UserError(
                f'`model.pretrained` has no effect on EdgeNeXt. Set `load_from = '
                f'{model["pretrained"]!r}` to load weights of the complete model, or '
                f'`model.backbone.init_cfg = {_EXAMPLE}` to load the backbone.'
            )
    for key, value in model.items() if isinstance(model, Mapping) else enumerate(model):
        if key != 'init_cfg' and isinstance(value, (Mapping, list, tuple)):
            check_pretrained(value, f'{name}.{key}')


def _check_pretrained(model: Mapping[str, Any], setting: Mapping[str, Any], name: str) -> None:
    checkpoint = setting.get('checkpoint')
    if not checkpoint:
        raise UserError(
            f'{name}.init_cfg has no `checkpoint`. Write `init_cfg = {_EXAMPLE}`, or '
            '`init_cfg = None` to start from random weights.'
        )
    is_edgenext = type_name(model.get('type')) == 'EdgeNeXt'
    if name == 'model' and not is_edgenext:
        raise UserError(
            f'`model.init_cfg` cannot load weights. Set `load_from = {checkpoint!r}` to load '
            f'weights of the complete model, or `model.backbone.init_cfg = {_EXAMPLE}` to load the '
            'backbone.'
        )
    if not is_edgenext and '://' in checkpoint and not checkpoint.startswith('http'):
        return  # such as torchvision://resnet50
    try:
        if is_edgenext:
            find_checkpoint(checkpoint)
        else:
            read_checkpoint(checkpoint)
    except UserError as error:
        raise UserError(
            f'{name} starts from the weights {checkpoint}, which are missing or cannot be read. '
            f'{error} To use others, add --cfg-options {name}.init_cfg.checkpoint=FILE. '
            f'To train from scratch, add --cfg-options {name}.init_cfg=None.'
        ) from error
