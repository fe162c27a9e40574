"""Files and folders that appear whole or not at all."""

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
    """A temporary path beside ``path`` that takes its place once the block has succeeded.

    A file that was there stays as it is until then, and for good if the block fails or the machine
    does. A process that is killed may leave the temporary file; see :func:`remove_leftovers`.
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
    """Removes the temporary files that killed processes have left where none is at work.

    Args:
        folder: Where :func:`replacing` was to put files.
        name: Of the files; may be a pattern such as ``*.pth``.
    """
    for path in Path(folder).glob(f'.{Path(name).stem}-????????{Path(name).suffix}'):
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place once the block has succeeded.

    An empty folder may stand there, nothing else.
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
    """Writes a checkpoint under a name that ends with the start of its hash, as OpenMMLab does.

    Args:
        checkpoint: What to write; weights alone, for a ``.safetensors`` file.
        path: Such as ``edgenext-small.pth``, which becomes ``edgenext-small-1a2b3c4d.pth``. What
            follows a dot in another name is not an ending: ``birds-v1.0-1a2b3c4d``.

    Returns:
        The path of the file.
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
