"""OpenVINO files, converted from ONNX: a graph (.xml) and its weights (.bin)."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import openvino
import torch
from torch import Tensor

from ..errors import UserError
from . import onnx_files
from .boxes import default_inputs
from .content import KEY, Content, Metadata, require

#: Operators that stay in floating point in INT8 files.
NOT_INT8 = [
    # With INT8 queries and keys of few channels, the CPU plugin's attention writes beyond its
    # buffers on processors with AVX-512 VNNI (seen up to 2026.4; similar to
    # https://github.com/openvinotoolkit/openvino/issues/31633). It is about 1% of the work.
    'ScaledDotProductAttention',
    # For depth-wise convolutions, quantizing their maps was measured to cost more than INT8 saves.
    'GroupConvolution',
]


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


def write(content: Content, path: Path) -> None:
    """Writes an OpenVINO file."""
    metadata = content.metadata
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder, 'model.onnx')
        single = replace(metadata, precision='fp32')
        graph = onnx_files.build(content._replace(metadata=single))
        # OpenVINO would treat inputs with default values as constants.
        inputs = {value.name for value in graph.graph.input}
        weights = [w for w in graph.graph.initializer if w.name not in inputs]
        del graph.graph.initializer[:]
        graph.graph.initializer.extend(weights)
        onnx.save(graph, onnx_path)
        model = openvino.convert_model(onnx_path)
        if metadata.precision == 'int8':
            model = quantize(model, content.calibration)
        model.set_rt_info(metadata.to_json(), [KEY])
        openvino.save_model(model, path, compress_to_fp16=metadata.precision == 'fp16')


def quantize(model: openvino.Model, calibration: Sequence[Tensor]) -> openvino.Model:
    """Quantizes a model to INT8 with NNCF.

    Args:
        model: The model, in float32.
        calibration: Normalised (1, C, H, W) images to measure the ranges of activations on.

    Raises:
        UserError: If NNCF is not installed.
    """
    require('nncf', 'INT8 in OpenVINO files')
    import nncf

    return nncf.quantize(
        model,
        nncf.Dataset([image.numpy() for image in calibration]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER,
        # Symmetric ranges: correcting for zero points was measured to take 10% of the time.
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(types=NOT_INT8, validate=False),
    )


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
        precision = 'fp32' if self.metadata.decoded else self.metadata.precision
        options: dict[str, object] = {'INFERENCE_PRECISION_HINT': arithmetic(precision)}
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self._model = core().compile_model(model, 'CPU', options)
        self._inputs = [value.get_any_name() for value in self._model.inputs]

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        given = {**default_inputs(len(x)), **(extra or {}), 'images': x.detach().cpu()}
        outputs = self._model(
            {name: given[name].numpy() for name in self._inputs}, share_inputs=True
        )
        return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]


open_session = OpenvinoSession
