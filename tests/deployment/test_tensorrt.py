"""The operators of ONNX files against those that TensorRT has published."""

import onnx
import pytest
from onnx import TensorProto, helper

from edgenext_mm.deployment.tensorrt import required_release
from edgenext_mm.errors import UserError


def save(path, operators, opset):
    nodes = [helper.make_node(op, [f'x{i}'], [f'x{i + 1}']) for i, op in enumerate(operators)]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ('x0', 'y')]
    graph = helper.make_graph(nodes, 'graph', value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)]), path)
    return path


@pytest.mark.parametrize(
    ('operators', 'opset', 'release', 'reasons'),
    [
        (['Relu'], 13, (8, 4), ['Relu', 'opset 13']),
        (['Relu'], 17, (8, 5), ['opset 17']),
        (['Relu', 'LayerNormalization'], 17, (8, 6), ['LayerNormalization']),
        (['Gelu'], 20, (10, 0), ['Gelu', 'opset 20']),
    ],
)
def test_the_newest_operator_decides(operators, opset, release, reasons, tmp_path):
    path = save(tmp_path / 'model.onnx', operators, opset)
    assert required_release(path) == (release, reasons)


def test_an_operator_on_no_list_is_named(tmp_path):
    with pytest.raises(UserError, match='known to have: Det'):
        required_release(save(tmp_path / 'model.onnx', ['Relu', 'Det'], 20))


def test_what_is_no_onnx_file_is_told(tmp_path):
    (tmp_path / 'model.onnx').write_bytes(b'not onnx')
    with pytest.raises(UserError, match='cannot be read as ONNX'):
        required_release(tmp_path / 'model.onnx')
