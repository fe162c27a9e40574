"""ncnn files on the CPU: a graph, its weights and the metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from ...errors import UserError
from ..metadata import KEY, Metadata


def beside(path: Path) -> tuple[Path, Path]:
    """Returns the paths of the weights and of the metadata."""
    return path.with_suffix('.bin'), path.with_suffix('.json')


def digest(*paths: Path) -> str:
    """Returns the SHA-256 of files."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


class NcnnSession:
    """Runs an ncnn file on the CPU, one image at a time.

    Args:
        path: Path of the graph; weights and metadata lie beside it.
        threads: Number of CPU threads. Default: the choice of ncnn.

    Raises:
        UserError: If a file is missing, incomplete or was changed.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        weights, description = beside(path)
        for file in (weights, description):
            if not file.is_file():
                raise UserError(
                    f'{path} cannot be read as ncnn: {file.name} is missing beside it. Copy the '
                    'three files together.'
                )
        stored = _read_description(description)
        if digest(path, weights) != stored.get('sha256'):
            raise UserError(
                f'{path} cannot be read as ncnn: it or {weights.name} is incomplete or was '
                f'changed after {description.name} had been written. Copy or export it again.'
            )
        self.metadata = Metadata.from_json(stored.get('metadata'), path)
        self._net = ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        half = self.metadata.precision == 'fp16'
        for name in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'):
            setattr(options, name, half)
        options.use_bf16_storage = False
        if threads:
            options.num_threads = threads
        if self._net.load_param(str(path)) or self._net.load_model(str(weights)):
            raise UserError(f'{path} cannot be read as ncnn.')

    def __call__(
        self, images: np.ndarray, extra: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the outputs; see :class:`~edgenext_mm.runtime.sessions.Session`."""
        image = np.ascontiguousarray(images[0])
        outputs = []
        with self._net.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(image))
            for i, name in enumerate(self.metadata.outputs):
                status, output = extractor.extract(f'out{i}')
                if status:
                    raise UserError(f'ncnn could not compute the output {name}.')
                array = np.array(output)[None]
                if 'decode' in self.metadata.include:  # ncnn counts the batch as a dimension
                    array = array.reshape(1, -1, *array.shape[-1:] * (name != 'factors'))
                outputs.append(array)
        return outputs


def _read_description(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())[KEY]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} cannot be read as the metadata of an ncnn file. Copy or export it again.'
        ) from error
    return stored if isinstance(stored, dict) else {}


open_session = NcnnSession
