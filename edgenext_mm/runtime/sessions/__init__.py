"""Opened files: one module for each runtime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import UserError
from ..formats import FORMATS, format_of_file, require
from ..metadata import Metadata


class Session(Protocol):
    """An opened file."""

    @property
    def metadata(self) -> Metadata:
        """The metadata of the file."""

    def __call__(
        self, images: np.ndarray, extra: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the outputs in the order of the metadata.

        Args:
            images: (B, C, H, W) float32 normalised images; of files with preprocessing
                (B, H, W, 3) uint8 red-green-blue images.
            extra: Values for the other inputs of the file by name, one row per image. Default:
                the values for images without padding and resizing.
        """


def open_session(path: str | Path, threads: int | None = None) -> Session:
    """Opens an exported file.

    Args:
        path: Path of the file; its suffix determines the format.
        threads: Number of CPU threads. Default: the choice of the runtime.

    Raises:
        UserError: If the file does not exist, has an unknown suffix, is corrupt, was not written
            by this package, needs PyTorch, or its runtime is not installed.
    """
    name = format_of_file(path)
    package = FORMATS[name].runs
    if package is None:
        others = ', '.join(key for key, kind in FORMATS.items() if kind.runs)
        raise UserError(
            f'{path}: files of the format {name} cannot be run without PyTorch here. Use '
            f'`edgenext_mm.inference_model`, or export the model as one of {others}.'
        )
    require(package, f'The format {name}')
    return importlib.import_module(f'.{name}', __package__).open_session(Path(path), threads)
