"""OpenVINO files: the ONNX graph in OpenVINO's own form, weights in a .bin beside the .xml."""

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
from .file_formats import Content, require
from .metadata import KEY, Metadata

#: Operators that INT8 files leave in floating point.
NOT_INT8 = [
    # With INT8 queries and keys of few channels, the CPU plugin's attention writes beyond its
    # buffers on processors with AVX-512 VNNI (seen up to 2026.4; of the kind of
    # https://github.com/openvinotoolkit/openvino/issues/31633). A hundredth of the work.
    'ScaledDotProductAttention',
    # Depth-wise convolutions gain less than it takes to round their maps, by measurement.
    'GroupConvolution',
]


@functools.cache
def core() -> openvino.Core:
    """OpenVINO's entry point, one for the whole process.

    The CPU plugin of each ``Core`` replaces the stack on which signal handlers run, and puts back
    the previous one when it is destroyed. When two are not destroyed in the reverse order, that
    stack has been unmapped, and the next signal (Ctrl-C, the end of a child process) kills the
    process without a message: ``SigAltStackSetup`` in OpenVINO's ``cpu_special_setup``, since
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
        # OpenVINO takes inputs with defaults for constants.
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
    """An INT8 model, by NNCF.

    Args:
        model: In single precision.
        calibration: Normalised images that show the range of every activation.

    Raises:
        UserError: If NNCF is missing.
    """
    require('nncf', 'INT8 in OpenVINO files')
    import nncf

    return nncf.quantize(
        model,
        nncf.Dataset([image.numpy() for image in calibration]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER,
        # Symmetric ranges: zero points to correct for take a tenth of the time, by measurement.
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(types=NOT_INT8, validate=False),
    )


def arithmetic(precision: str) -> str:
    """What OpenVINO calls the floating point that a CPU is to run a precision in.

    INT8 files hold operators that are not INT8: they are run in BF16 where the CPU has it, as by
    OpenVINO's defaults.
    """
    offered = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    half = precision == 'bf16' or (precision == 'int8' and 'BF16' in offered)
    return 'bf16' if half else 'f32'


class OpenvinoSession:
    """An OpenVINO file on the CPU."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            model = core().read_model(path)
        except RuntimeError as error:
            raise UserError(f'{path} cannot be read as OpenVINO: {error}') from error
        if not model.has_rt_info([KEY]):
            raise UserError(f'{path} was not written by tools/deployment/export.py.')
        self.metadata = Metadata.from_json(model.get_rt_info([KEY]).astype(str), path)
        options: dict[str, object] = {
            # Coordinates of boxes need more than the eight bits of BF16.
            'INFERENCE_PRECISION_HINT': 'f32'
            if self.metadata.decoded
            else arithmetic(self.metadata.precision)
        }
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self._model = core().compile_model(model, 'CPU', options)
        self._inputs = [value.get_any_name() for value in self._model.inputs]

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The outputs for (B, C, H, W) normalised images; see :class:`~.formats.Session`."""
        given = {**default_inputs(len(x)), **(extra or {}), 'images': x.detach().cpu()}
        outputs = self._model(
            {name: given[name].numpy() for name in self._inputs}, share_inputs=True
        )
        return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]


def open_session(path: Path, threads: int | None = None) -> OpenvinoSession:
    """Opens an OpenVINO file."""
    return OpenvinoSession(path, threads)
