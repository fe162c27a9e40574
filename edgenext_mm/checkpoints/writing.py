"""Writing checkpoints under names with their hashes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..files import umask


def write_hashed_checkpoint(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Writes a checkpoint to a file whose name contains the start of its hash, as in OpenMMLab.

    Args:
        checkpoint: The checkpoint. Only its weights are written to a ``.safetensors`` file.
        path: The path without the hash: ``edgenext-small.pth`` becomes
            ``edgenext-small-1a2b3c4d.pth``. Only ``.pth``, ``.pt`` and ``.safetensors`` are taken
            for endings: ``birds-v1.0`` becomes ``birds-v1.0-1a2b3c4d``.

    Returns:
        The path of the written file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.checkpoint-') as folder:
        temporary = Path(folder, path.name)
        if path.suffix == '.safetensors':
            weights = checkpoint.get('state_dict', checkpoint)
            save_file({k: v.contiguous() for k, v in weights.items()}, temporary)
        else:
            torch.save(checkpoint, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        ending = path.suffix if path.suffix in ('.pth', '.pt', '.safetensors') else ''
        hashed = path.with_name(f'{path.name.removesuffix(ending)}-{digest[:8]}{ending}')
        temporary.chmod(0o666 & ~umask())
        temporary.replace(hashed)
    return hashed
