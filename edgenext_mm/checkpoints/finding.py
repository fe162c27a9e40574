"""From a checkpoint's name, URL or path to what it holds."""

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
    """The file of a checkpoint; what has to be downloaded is, unless it is in the cache.

    Args:
        checkpoint: Path, URL, or the name of a model of the zoo with published weights.

    Raises:
        UserError: If it is none of them, or no source delivers it.
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
        '(tools/train.py leaves them in its work folder), or the name of a model with published '
        f'weights: {", ".join(list_models(pretrained=True))}.'
    )


def read_checkpoint(checkpoint: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        checkpoint: See :func:`find_checkpoint`, or an address in a store that mmengine has a file
            backend for, such as ``s3://bucket/file.pth``.
        map_location: Where tensors go. Default: the CPU.

    Raises:
        UserError: If it is not there or cannot be read.
    """
    name = str(checkpoint)
    if '://' not in name or name.startswith(('http://', 'https://')):
        return read_file(find_checkpoint(checkpoint), map_location)
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as copy:
        copy.write(get(name))
        copy.flush()
        return read_file(copy.name, map_location)


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
