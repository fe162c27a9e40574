"""Files for PyTorch itself: TorchScript, also for LibTorch, and torch.export programs."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from .file_formats import DIMENSIONS, Content
from .metadata import KEY, Metadata


def write(content: Content, path: Path) -> None:
    """Writes a file of PyTorch."""
    network, example, metadata = content.network, content.example, content.metadata
    if metadata.precision != 'fp32':
        network = network.cast(metadata.precision)
    extra = {KEY: metadata.to_json()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        if path.suffix == '.torchscript':
            traced = torch.jit.trace(network, example, check_trace=False)
            torch.jit.save(torch.jit.freeze(traced.eval()), str(path), _extra_files=extra)
            return
        shapes = {DIMENSIONS[d]: torch.export.Dim.DYNAMIC for d in metadata.dynamic}
        program = torch.export.export(
            network, (example,), dynamic_shapes=(shapes,) if shapes else None
        )
        torch.export.save(program, path, extra_files=extra)


class TorchSession:
    """A TorchScript file or torch.export program."""

    def __init__(self, path: Path, load: Callable, threads: int | None = None) -> None:
        extra = {KEY: ''}
        try:
            self._call = load(path, extra)
        except (RuntimeError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f'{path} cannot be read as a file of PyTorch: {error}') from error
        if not extra[KEY]:
            raise UserError(f'{path} was not written by tools/deployment/export.py.')
        text = extra[KEY]
        self.metadata = Metadata.from_json(text if isinstance(text, str) else text.decode(), path)
        if threads:
            torch.set_num_threads(threads)

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The outputs for (B, C, H, W) normalised images."""
        with torch.no_grad():
            return list(self._call(x))


def open_session(path: Path, threads: int | None = None) -> TorchSession:
    """Opens a file of PyTorch."""
    load = _load_script if path.suffix == '.torchscript' else _load_program
    return TorchSession(path, load, threads)


def _load_script(path: Path, extra: dict) -> Callable:
    return torch.jit.load(str(path), map_location='cpu', _extra_files=extra).eval()


def _load_program(path: Path, extra: dict) -> Callable:
    return torch.export.load(path, extra_files=extra).module()
