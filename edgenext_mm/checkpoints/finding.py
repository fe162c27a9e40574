"""Finds and reads the checkpoint with a given name, URL or path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.fileio import get

from ..errors import UserError
from .download import fetch
from .reading import read_file
from .zoo import find_weights, list_models


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Returns the file of a checkpoint, and downloads it if it is not in the cache.

    Args:
        checkpoint: Path, URL, or name of a model in the zoo with published weights.

    Raises:
        UserError: If it does not exist or cannot be downloaded.
    """
    name = str(checkpoint)
    if name.startswith(('http://', 'https://')):
        return fetch([name])
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in list_models():
        return find_weights(name)
    raise UserError(
        f'There is no checkpoint {name}. Give the path or URL of a .pth or .safetensors file '
        '(tools/train.py writes them to its work folder), or the name of a model with published '
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
    if '://' not in name or name.startswith(('http://', 'https://')):
        return read_file(find_checkpoint(checkpoint), map_location)
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as copy:
        copy.write(get(name))
        copy.flush()
        return read_file(copy.name, map_location)


def check_pretrained(model: Any, name: str = 'model') -> None:
    """Checks that the ``Pretrained`` weights in the config of a model exist, and downloads them.

    Args:
        model: Config of the model or of a part of it.
        name: Path of ``model`` in the full config, for messages. Default: ``'model'``.

    Raises:
        UserError: If weights are missing.
    """
    for key, value in model.items() if isinstance(model, Mapping) else enumerate(model):
        if key == 'init_cfg' and isinstance(value, Mapping) and value['type'] == 'Pretrained':
            try:
                find_checkpoint(value['checkpoint'])
            except UserError as error:
                raise UserError(
                    f'{name} starts from the weights {value["checkpoint"]}, which are missing. '
                    f'{error} To use others, add --cfg-options {name}.init_cfg.checkpoint=FILE. '
                    f'To train from scratch, add --cfg-options {name}.init_cfg=None.'
                ) from error
        elif isinstance(value, (Mapping, list)):
            check_pretrained(value, f'{name}.{key}')
