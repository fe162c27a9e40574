"""Files for PyTorch: TorchScript, also for LibTorch, and torch.export programs."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..runtime.metadata import KEY, Metadata
from .content import Content, open_dimensions


def write(content: Content, path: Path) -> None:
    """Writes a TorchScript file or a torch.export program, by the suffix of the path."""
    network, example, metadata = content.network, content.example, content.metadata
    if metadata.precision != 'fp32':
        network = network.cast(metadata.precision)
    extra = {KEY: metadata.to_json()}
    if path.suffix == '.torchscript':
        traced = torch.jit.freeze(trace(network, example))
        torch.jit.save(traced, str(path), _extra_files=extra)
        return
    save_program(network, example, path, metadata.dynamic, extra)


def save_program(
    network: nn.Module,
    example: Tensor,
    path: Path,
    dynamic: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes a torch.export program.

    Args:
        network: The network, in evaluation mode.
        example: (B, C, H, W) images for tracing.
        path: Path of the file.
        dynamic: Dimensions that may vary: ``batch``, ``height``, ``width``. Default: none.
        extra: Texts to store in the file, by name. Default: none.
    """
    shapes = open_dimensions(example, dynamic)
    with torch.no_grad():
        program = torch.export.export(
            network, (example,), dynamic_shapes=(shapes,) if shapes else None
        )
        torch.export.save(program, path, extra_files=dict(extra or {}))


def trace(network: nn.Module, example: Tensor) -> torch.jit.ScriptModule:
    """Converts a network to TorchScript."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        return torch.jit.trace(network, example, check_trace=False).eval()


class TorchSession:
    """Runs a TorchScript file or a torch.export program on the CPU.

    Args:
        path: Path of the file.
        threads: Number of CPU threads of this process. Default: PyTorch's.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        extra = {KEY: ''}
        try:
            if path.suffix == '.torchscript':
                self._network = torch.jit.load(str(path), map_location='cpu', _extra_files=extra)
                self._network.eval()
            else:
                self._network = torch.export.load(path, extra_files=extra).module()
        except (RuntimeError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f'{path} cannot be read as a PyTorch file: {error}') from error
        text = extra[KEY]
        self.metadata = Metadata.from_json(text if isinstance(text, str) else text.decode(), path)
        if threads:
            torch.set_num_threads(threads)

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        with torch.no_grad():
            return list(self._network(x))


open_session = TorchSession
