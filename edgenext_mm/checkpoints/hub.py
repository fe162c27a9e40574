"""Files of models on the Hugging Face Hub, by addresses such as ``hf://owner/name``.

The environment variable ``HF_ENDPOINT`` names another hub, and ``HF_TOKEN`` gives access to private
models, as for all programs that use huggingface_hub.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config

from ..errors import UserError
from .download import cache_folder

PREFIX = 'hf://'
WEIGHTS = 'model.safetensors'
CONFIG = 'config.json'


def is_hub_address(name: object) -> bool:
    """Returns whether a name is the address of a model on the hub."""
    return str(name).startswith(PREFIX)


def hub_file(address: str, file: str = WEIGHTS) -> Path:
    """Returns a file of a model on the hub, and downloads it if it is not in the cache.

    Args:
        address: ``hf://owner/name``, optionally with a branch, tag or commit: ``hf://owner/name@v1``.
        file: Name of the file. Default: ``model.safetensors``.

    Raises:
        UserError: If the address is malformed, huggingface_hub is not installed, or the file
            cannot be downloaded.
    """
    match = re.fullmatch(rf'{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?', str(address))
    if match is None:
        raise UserError(
            f'{address!r} is no address of a model on the Hugging Face Hub. Write '
            'hf://OWNER/NAME, or hf://OWNER/NAME@REVISION.'
        )
    hub = import_hub()
    try:
        path = hub.hf_hub_download(
            match[1],
            file,
            revision=match[2],
            cache_dir=cache_folder('huggingface'),
            endpoint=os.environ.get('HF_ENDPOINT'),
        )
    except Exception as error:  # which ones depends on the client's version
        raise UserError(
            f'{file} of {address} could not be downloaded: {str(error).strip()} '
            'Private models need a token: run `hf auth login`, or set HF_TOKEN.'
        ) from error
    return Path(path)


def hub_config(address: str) -> Config:
    """Returns the config of a model on the hub. Nothing in it is run.

    Args:
        address: ``hf://OWNER/NAME``, see :func:`hub_file`.

    Raises:
        UserError: If the model has no config of this package.
    """
    path = hub_file(address, CONFIG)
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        imports = content.pop('custom_imports')['imports']
        others = [name for name in imports if name.partition('.')[0] != 'edgenext_mm']
        content['model'], content['test_dataloader']['dataset']['pipeline']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'The {CONFIG} of {address} was not written by edgenext_mm. Its weights may serve as '
            f'a checkpoint: give a config, and {address} as the checkpoint.'
        ) from error
    if others:
        raise UserError(
            f'{address} needs the modules {", ".join(others)}, which are not imported for you. '
            'Give your own config, and this address as the checkpoint.'
        )
    return Config(content)


def import_hub() -> ModuleType:
    """Imports huggingface_hub.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            'Models on the Hugging Face Hub need huggingface_hub, which is not installed: '
            "`pip install 'edgenext_mm[hub]'`."
        ) from error
    return huggingface_hub
