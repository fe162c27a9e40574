"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from ...errors import UserError
from ..metadata import KEY, Metadata


class OnnxSession:
    """Runs an ONNX file in ONNX Runtime, on a GPU if it has one.

    Args:
        path: Path of the file.
        threads: Number of CPU threads. Default: the choice of ONNX Runtime.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # the errors of ONNX Runtime have no common base class
            raise UserError(f'{path} cannot be read as ONNX: {error}') from error
        self._optional = {value.name for value in self._session.get_overridable_initializers()}
        stored = self._session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_json(stored.get(KEY), path)

    def __call__(
        self, images: np.ndarray, extra: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the outputs; see :class:`~edgenext_mm.runtime.sessions.Session`."""
        given = {name: value for name, value in (extra or {}).items() if name in self._optional}
        return self._session.run(None, {**given, 'images': images})


open_session = OnnxSession
