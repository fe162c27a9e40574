"""ONNX files, written by torch's exporter and run by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from ..errors import UserError
from .formats import DIMENSIONS, Content
from .heads import Cast
from .metadata import KEY, Metadata

#: The most boxes of one image that pass NMS.
MAX_BOXES = 1000


def write(content: Content, path: Path) -> None:
    """Writes an ONNX file."""
    network, example, metadata, calibration = content
    if metadata.precision == 'fp16':
        network = Cast(network, 'fp16')
    model = to_onnx(network, example, metadata.outputs, metadata.dynamic)
    if metadata.decoded:
        _append_nms(model, metadata)
    helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    if metadata.precision == 'int8':
        quantize(path, calibration)


def to_onnx(
    network: nn.Module,
    example: Tensor,
    outputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
) -> onnx.ModelProto:
    """A network as an ONNX graph.

    Args:
        network: In evaluation mode.
        example: (B, 3, H, W) images that it is traced with.
        outputs: Their names. Default: the exporter's own.
        dynamic: Which of ``batch``, ``height`` and ``width`` may change. Default: none.
    """
    shapes = {DIMENSIONS[d]: torch.export.Dim.DYNAMIC for d in dynamic}
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
    return program.model_proto


def _append_nms(model: onnx.ModelProto, metadata: Metadata) -> None:
    """From the best boxes of each image to those that remain, as one list over the batch.

    Boxes of each class are moved to a place of their own first, so that one NMS serves all.
    """
    settings = metadata.config['model']['test_cfg']
    graph = model.graph
    boxes, scores, labels = metadata.outputs
    one, offset = 'nms_one', 'nms_offset'
    graph.initializer.extend(
        [
            helper.make_tensor('nms_count', TensorProto.INT64, [1], [MAX_BOXES]),
            helper.make_tensor(
                'nms_iou', TensorProto.FLOAT, [1], [settings['nms'].get('iou_threshold', 0.5)]
            ),
            helper.make_tensor('nms_score', TensorProto.FLOAT, [1], [settings['score_thr']]),
            helper.make_tensor(one, TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor('nms_axis1', TensorProto.INT64, [1], [1]),
            helper.make_tensor('nms_axis2', TensorProto.INT64, [1], [2]),
            helper.make_tensor('nms_columns', TensorProto.INT64, [2], [0, 2]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node('ReduceMax', [boxes], ['nms_largest'], keepdims=0),
            helper.make_node('Add', ['nms_largest', one], ['nms_step']),
            helper.make_node('Cast', [labels], ['nms_labels'], to=TensorProto.FLOAT),
            helper.make_node('Mul', ['nms_labels', 'nms_step'], ['nms_flat']),
            helper.make_node('Unsqueeze', ['nms_flat', 'nms_axis2'], [offset]),
            helper.make_node('Add', [boxes, offset], ['nms_boxes']),
            helper.make_node('Unsqueeze', [scores, 'nms_axis1'], ['nms_scores']),
            helper.make_node(
                'NonMaxSuppression',
                ['nms_boxes', 'nms_scores', 'nms_count', 'nms_iou', 'nms_score'],
                ['nms_selected'],
            ),
            helper.make_node('Gather', ['nms_selected', 'nms_columns'], ['nms_index'], axis=1),
            helper.make_node('GatherND', [boxes, 'nms_index'], ['detected_boxes']),
            helper.make_node('GatherND', [scores, 'nms_index'], ['detected_scores']),
            helper.make_node('GatherND', [labels, 'nms_index'], ['detected_labels']),
            helper.make_node('Gather', ['nms_selected', 'nms_first'], ['detected_image'], axis=1),
        ]
    )
    graph.initializer.append(helper.make_tensor('nms_first', TensorProto.INT64, [], [0]))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info('detected_boxes', TensorProto.FLOAT, ['found', 4]),
            helper.make_tensor_value_info('detected_scores', TensorProto.FLOAT, ['found']),
            helper.make_tensor_value_info('detected_labels', TensorProto.INT64, ['found']),
            helper.make_tensor_value_info('detected_image', TensorProto.INT64, ['found']),
        ]
    )


def quantize(path: Path, calibration: Sequence[Tensor]) -> None:
    """Makes an ONNX file INT8, in its place.

    Args:
        path: Of the file.
        calibration: Normalised images that show the range of every activation.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {'images': image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, 'prepared.onnx')
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            Reader(),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=['Conv', 'MatMul', 'Gemm'],
        )


class OnnxSession:
    """An ONNX file under onnxruntime, on a GPU where onnxruntime has one."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise UserError(f'{path} cannot be read as ONNX: {error}') from error
        stored = self._session.get_modelmeta().custom_metadata_map
        if KEY not in stored:
            raise UserError(f'{path} was not written by tools/deployment/export.py.')
        self.metadata = Metadata.from_json(stored[KEY], path)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The outputs for (B, 3, H, W) normalised images."""
        outputs = self._session.run(None, {'images': x.detach().cpu().numpy()})
        return [torch.from_numpy(np.asarray(output)) for output in outputs]


def open_session(path: Path, threads: int | None = None) -> OnnxSession:
    """Opens an ONNX file."""
    return OnnxSession(path, threads)
