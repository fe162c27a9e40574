"""Access to the modules of the file formats, and to files by their suffix."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ..runtime import sessions
from ..runtime.formats import FORMATS, FileFormat, find_format, format_of_file, require
from ..runtime.metadata import Metadata
from .content import Session


def find_writer(name: str) -> FileFormat:
    """Returns a format by name.

    Raises:
        UserError: If there is no such format, or a package that writes or runs it is missing.
    """
    kind = find_format(name)
    for package in (*kind.writes, kind.runs):
        if package is not None:
            require(package, f'The format {name}')
    return kind


def open_session(path: str | Path, threads: int | None = None) -> Session:
    """Opens an exported file.

    Args:
        path: Path of the file; its suffix determines the format.
        threads: Number of CPU threads. Default: the choice of the runtime.

    Raises:
        UserError: If the file does not exist, has an unknown suffix, is corrupt, or was not
            written by this package.
    """
    name = format_of_file(path)
    if FORMATS[name].runs is None:
        return backend(name).open_session(Path(path), threads)
    return TensorSession(sessions.open_session(path, threads))


def backend(name: str) -> ModuleType:
    """Imports the module with ``write`` of a format, and ``open_session`` if PyTorch runs it.

    The packages that other formats need may be missing.
    """
    modules = {'torchscript': 'torch_files', 'torch-export': 'torch_files'}
    return importlib.import_module(f'.{modules.get(name, f"{name}_files")}', __package__)


class TensorSession:
    """A file that runs without PyTorch, with tensors instead of arrays.

    Args:
        session: The opened file.
    """

    def __init__(self, session: sessions.Session) -> None:
        self.session = session

    @property
    def metadata(self) -> Metadata:
        """The metadata of the file."""
        return self.session.metadata

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        arrays = {name: value.numpy() for name, value in (extra or {}).items()}
        return [
            torch.from_numpy(output) for output in self.session(x.detach().cpu().numpy(), arrays)
        ]
