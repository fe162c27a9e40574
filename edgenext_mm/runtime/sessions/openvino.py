"""OpenVINO files on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino

from ...errors import UserError
from ..boxes import default_inputs
from ..metadata import KEY, Metadata


@functools.cache
def core() -> openvino.Core:
    """Returns OpenVINO's entry point, one for the whole process.

    The CPU plugin of each ``Core`` replaces the stack for signal handlers and restores the previous
    one when it is destroyed. If two are not destroyed in reverse order, that stack is already
    unmapped, and the next signal (Ctrl-C, the end of a child process) kills the process without a
    message: ``SigAltStackSetup`` in OpenVINO's ``cpu_special_setup``, since
    https://github.com/openvinotoolkit/openvino/pull/11894.
    """
    return openvino.Core()


def arithmetic(precision: str) -> str:
    """Returns OpenVINO's name of the floating-point type in which the CPU runs a precision.

    Operators of INT8 files that are not quantized run in BF16 if the CPU supports it, which is also
    OpenVINO's default.
    """
    offered = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    half = precision == 'bf16' or (precision == 'int8' and 'BF16' in offered)
    return 'bf16' if half else 'f32'


class OpenvinoSession:
    """Runs an OpenVINO file on the CPU.

    Args:
        path: Path of the file.
        threads: Number of CPU threads. Default: the choice of OpenVINO.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            model = core().read_model(path)
        except RuntimeError as error:
            raise UserError(f'{path} cannot be read as OpenVINO: {error}') from error
        stored = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        self.metadata = Metadata.from_json(stored, path)
        # Coordinates of boxes need more than the eight bits of BF16.
        precision = 'fp32' if 'decode' in self.metadata.include else self.metadata.precision
        options: dict[str, object] = {'INFERENCE_PRECISION_HINT': arithmetic(precision)}
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self._model = core().compile_model(model, 'CPU', options)
        self._inputs = [value.get_any_name() for value in self._model.inputs]

    def __call__(
        self, images: np.ndarray, extra: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the outputs; see :class:`~edgenext_mm.runtime.sessions.Session`."""
        given = {**default_inputs(len(images)), **(extra or {}), 'images': images}
        outputs = self._model({name: given[name] for name in self._inputs}, share_inputs=True)
        return [outputs[i].copy() for i in range(len(outputs))]


open_session = OpenvinoSession
