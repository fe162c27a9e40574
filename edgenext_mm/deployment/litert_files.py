"""LiteRT files (TensorFlow Lite), written by litert-torch in an environment of its own."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from . import torch_files
from .content import KEY, Content, Metadata
from .converters import run_converter

#: Files that are appended to a LiteRT file as a zip archive, where Android's tools look for them.
METADATA, LABELS = f'{KEY}.json', 'labels.txt'


def write(content: Content, path: Path) -> None:
    """Writes a LiteRT file.

    Raises:
        UserError: If the converter is not installed, or cannot convert the network.
    """
    metadata = content.metadata
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, 'program.pt2')
        torch_files.save_program(content.network, content.example, program)
        run_converter('litert', [program, path.resolve()])
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(METADATA, metadata.to_json())
        archive.writestr(LABELS, ''.join(f'{name}\n' for name in metadata.classes))


class LitertSession:
    """Runs a LiteRT file on the CPU, one image at a time.

    Args:
        path: Path of the file.
        threads: Number of CPU threads. Default: the choice of LiteRT.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with zipfile.ZipFile(path) as archive:
                stored = archive.read(METADATA).decode() if METADATA in archive.namelist() else None
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise UserError(f'{path} cannot be read as LiteRT: {error}') from error
        self.metadata = Metadata.from_json(stored, path)
        signature = self._interpreter.get_signature_runner()
        self._input = next(iter(signature.get_input_details()))
        # Outputs are named output_0, output_1, ... and listed in the order of text: 0, 1, 10, 2.
        self._outputs = sorted(signature.get_output_details(), key=lambda n: int(n.split('_')[-1]))
        self._run = signature

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        outputs = self._run(**{self._input: x.detach().cpu().numpy()})
        return [torch.from_numpy(outputs[name]) for name in self._outputs]


open_session = LitertSession
