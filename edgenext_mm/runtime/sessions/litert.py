"""LiteRT files (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ...errors import UserError
from ..metadata import KEY, Metadata

#: Files that are appended to a LiteRT file as a zip archive, where Android's tools look for them.
METADATA, LABELS = f'{KEY}.json', 'labels.txt'


class LitertSession:
    """Runs a LiteRT file on the CPU, one image at a time.

    Args:
        path: Path of the file.
        threads: Number of CPU threads. Default: the choice of LiteRT.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
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

    def __call__(
        self, images: np.ndarray, extra: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the outputs; see :class:`~edgenext_mm.runtime.sessions.Session`."""
        outputs = self._run(**{self._input: images})
        return [outputs[name] for name in self._outputs]


open_session = LitertSession
