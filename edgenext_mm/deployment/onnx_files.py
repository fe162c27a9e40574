"""ONNX files, written by PyTorch's exporter."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..runtime.boxes import NO_SCORE, Selection, default_inputs
from ..runtime.metadata import KEY
from .content import Content, open_dimensions
from .int8 import Int8Settings


def write(content: Content, path: Path) -> None:
    """Writes an ONNX file."""
    onnx.save(build(content), path)
    if content.metadata.precision == 'int8':
        quantize(path, content.calibration, content.int8)


def build(content: Content) -> onnx.ModelProto:
    """Returns the graph of a file, before quantization."""
    network, example, metadata = content.network, content.example, content.metadata
    if metadata.precision == 'fp16':
        network = network.cast('fp16')
    model = to_onnx(network, example, metadata.outputs, metadata.dynamic)
    if content.selection:
        _append_selection(model, content.selection)
    helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.checker.check_model(model)
    return model


def to_onnx(
    network: nn.Module,
    example: Tensor,
    outputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
) -> onnx.ModelProto:
    """Converts a network to an ONNX graph.

    Args:
        network: The network, in evaluation mode.
        example: (B, C, H, W) images for tracing; (B, H, W, 3) uint8 with preprocessing.
        outputs: Names of the outputs. Default: those of the exporter.
        dynamic: Dimensions that may vary: ``batch``, ``height``, ``width``. Default: none.
    """
    shapes = open_dimensions(example, dynamic)
    with torch.no_grad():
        program = torch.onnx.export(
            network,
            (example,),
            input_names=['images'],
            output_names=list(outputs) or None,
            dynamic_shapes=(shapes,) if shapes else None,
            dynamo=True,
            verbose=False,
        )
    _register_constants(program.model)
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # where in the code it comes from: a third of a small INT8 file
    return model


def _register_constants(model: ir.Model) -> None:
    """Adds constants that are used but missing in a graph.

    onnxscript's fusion of two clips names its constants after their input. Where an input is
    clipped twice, as in mmdet's ``inverse_sigmoid``, the second constant replaces the first.
    """
    constants = model.graph.initializers
    for node in model.graph:
        for value in node.inputs:
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            if constants.get(value.name or '') is not value:
                value.name = f'{value.name}_{node.outputs[0].name}'
                constants[value.name] = value


def _append_selection(model: onnx.ModelProto, selection: Selection) -> None:
    """Appends clipping, the filter for small boxes and NMS to the graph of a BoxNetwork.

    The outputs are one list of boxes for the whole batch. As in mmcv's ``batched_nms``, the boxes
    of each class are moved apart, so that one NMS serves all classes. The size of an image without
    padding and its scale factor become inputs with default values, see
    :func:`~edgenext_mm.runtime.boxes.default_inputs`.
    """
    graph = model.graph
    boxes, scores, labels = (output.name for output in graph.output)

    def constant(name: str, values: Any, dtype: type = np.float32) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), f'nms_{name}'))
        return f'nms_{name}'

    def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def defaulted(name: str) -> str:
        value = default_inputs(1)[name]
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]))
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    axis = {i: constant(f'axis{i}', [i], np.int64) for i in (1, 2)}
    if selection.clip:
        order = constant('xyxy', [1, 0, 1, 0], np.int64)
        limits = node('Gather', [defaulted('image_size'), order], 'nms_limits', axis=1)
        limits = node('Unsqueeze', [limits, axis[1]], 'nms_limit')
        boxes = node('Min', [boxes, limits], 'nms_clipped')
    if selection.min_bbox_size is not None:
        ends = [constant(f'column{i}', [i], np.int64) for i in (0, 2, 4)]
        first = node('Slice', [boxes, ends[0], ends[1], axis[2]], 'nms_first')
        last = node('Slice', [boxes, ends[1], ends[2], axis[2]], 'nms_last')
        sides = node('Sub', [last, first], 'nms_sides')
        least = constant('least', selection.min_bbox_size)
        if selection.min_bbox_size > 0:
            least = node('Mul', [defaulted('scale_factor'), least], 'nms_least_scaled')
            least = node('Unsqueeze', [least, axis[1]], 'nms_least_each')
        # How much longer than the limit the shorter side is.
        room = node('Sub', [sides, least], 'nms_room')
        room = node('ReduceMin', [room, axis[2]], 'nms_smaller', keepdims=0)
        large = node('Greater', [room, constant('zero', 0)], 'nms_large')
        scores = node('Where', [large, scores, constant('none', NO_SCORE)], 'nms_scores')
    moved = boxes
    if not selection.class_agnostic:
        largest = node('ReduceMax', [boxes], 'nms_largest', keepdims=0)
        step = node('Add', [largest, constant('one', 1)], 'nms_step')
        numbers = node('Cast', [labels], 'nms_labels', to=TensorProto.FLOAT)
        offset = node('Mul', [numbers, step], 'nms_offset')
        offset = node('Unsqueeze', [offset, axis[2]], 'nms_offsets')
        moved = node('Add', [boxes, offset], 'nms_moved')
    kept = node(
        'NonMaxSuppression',
        [
            moved,
            node('Unsqueeze', [scores, axis[1]], 'nms_class_scores'),
            constant('count', [selection.max_per_img], np.int64),
            constant('iou', [selection.iou_threshold]),
            constant('score', [NO_SCORE / 2]),
        ],
        'nms_selected',
    )
    index = node('Gather', [kept, constant('columns', [0, 2], np.int64)], 'nms_index', axis=1)
    found = [
        node('GatherND', [boxes, index], 'detected_boxes'),
        node('GatherND', [scores, index], 'detected_scores'),
        node('GatherND', [labels, index], 'detected_labels'),
        node('Gather', [kept, constant('image', 0, np.int64)], 'detected_image', axis=1),
    ]
    kinds = [TensorProto.FLOAT] * 2 + [TensorProto.INT64] * 2
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, kind, ['found', 4] if 'boxes' in name else ['found'])
        for name, kind in zip(found, kinds, strict=True)
    )


def kind_of(node: onnx.NodeProto, weights: Collection[str]) -> str | None:
    """Returns the kind of an operator; None if it always stays in floating point.

    Args:
        node: The operator.
        weights: Names of the constants of the graph.
    """
    if node.op_type == 'Conv':
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get('group', 1) > 1:
            return 'depthwise'
        return 'linear' if set(attributes.get('kernel_shape', (0,))) == {1} else 'convolution'
    if node.op_type in ('MatMul', 'Gemm'):
        return 'linear' if any(name in weights for name in node.input) else 'attention'
    return None


def quantize(
    path: Path,
    calibration: Sequence[Tensor],
    settings: Int8Settings,
) -> int:
    """Quantizes an ONNX file to INT8, in place.

    Args:
        path: Path of the file.
        calibration: Inputs for one image each, to measure the ranges of activations on.
        settings: Scheme, ranges, and what stays in floating point.

    Returns:
        The number of operators that became INT8.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    symmetric = settings.scheme == 'symmetric'
    methods = dict(
        minmax=CalibrationMethod.MinMax,
        entropy=CalibrationMethod.Entropy,
        percentile=CalibrationMethod.Percentile,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {'images': image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, 'prepared.onnx')
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        weights = {weight.name for weight in graph.initializer}
        weights |= {node.output[0] for node in graph.node if node.op_type == 'Constant'}
        kinds = {node.name: kind_of(node, weights) for node in graph.node}
        chosen = [name for name, kind in kinds.items() if kind and kind not in settings.keep_float]
        if not chosen:
            return 0
        quantize_static(
            prepared,
            path,
            Reader(),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            op_types_to_quantize=['Conv', 'MatMul', 'Gemm'],
            nodes_to_quantize=chosen,
            calibrate_method=methods[settings.ranges],
            # TensorRT's parser supports neither zero points nor INT32 biases.
            extra_options=dict(ActivationSymmetric=symmetric, QuantizeBias=not symmetric),
        )
    return len(chosen)
