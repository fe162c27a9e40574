"""OpenVINO files, converted from ONNX: a graph (.xml) and its weights (.bin)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import openvino
from torch import Tensor

from ..runtime.formats import require
from ..runtime.metadata import KEY
from . import onnx_files
from .content import Content

#: Operators that stay in floating point in INT8 files.
NOT_INT8 = [
    # With INT8 queries and keys of few channels, the CPU plugin's attention writes beyond its
    # buffers on processors with AVX-512 VNNI (seen up to 2026.4; similar to
    # https://github.com/openvinotoolkit/openvino/issues/31633). It is about 1% of the work.
    'ScaledDotProductAttention',
    # For depth-wise convolutions, quantizing their maps was measured to cost more than INT8 saves.
    'GroupConvolution',
]


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
        calibration: Inputs for one image each, to measure the ranges of activations on.

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
