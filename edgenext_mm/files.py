"""Writing files and folders completely or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary file, which replaces ``path`` when the block has succeeded.

    An existing file is kept if the block fails or the machine crashes. A process that is killed
    may leave the temporary file; see :func:`remove_leftovers`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}-', suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike[str], name: str) -> None:
    """Removes temporary files of :func:`replacing` that killed processes have left.

    No process may be writing there.

    Args:
        folder: The folder of the files.
        name: Name of the files that were to be written, or a pattern such as ``*.pth``.
    """
    for path in Path(folder).glob(f'.{Path(name).stem}-????????{Path(name).suffix}'):
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary folder, which is renamed to ``path`` when the block has succeeded.

    ``path`` must not exist, or be an empty folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{path.name}-', dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
            from safetensors.torch import save_file

            weights = checkpoint.get('state_dict', checkpoint)
            save_file({k: v.contiguous() for k, v in weights.items()}, temporary)
        else:
            torch.save(checkpoint, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        ending = path.suffix if path.suffix in ('.pth', '.pt', '.safetensors') else ''
        hashed = path.with_name(f'{path.name.removesuffix(ending)}-{digest[:8]}{ending}')
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(hashed)
    return hashed
