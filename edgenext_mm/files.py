"""Writing files and folders completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
        temporary.chmod(0o666 & ~umask())
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
        temporary.chmod(0o777 & ~umask())
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """Returns the bits of the permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
