"""LiteRT files (TensorFlow Lite), written by litert-torch in an environment of its own."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from ..runtime.metadata import KEY
from . import torch_files
from .content import Content
from .converters import run_converter


def write(content: Content, path: Path) -> None:
    """Writes a LiteRT file.

    Raises:
        UserError: If the converter is not installed, or cannot convert the network.
    """
    metadata = content.metadata
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, 'program.pt2')
        torch_files.save_program(content.network, content.example, program)
        run_converter('litert', [program, path.resolve(), *content.save_calibration(folder)])
    # Appended as a zip archive, where Android's tools look for labels.
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(f'{KEY}.json', metadata.to_json())
        archive.writestr('labels.txt', ''.join(f'{name}\n' for name in metadata.classes))
