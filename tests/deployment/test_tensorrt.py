"""The operators of ONNX files against those that TensorRT has published."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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


# What the documentation of the parser excludes of the operators that it lists.


def constant(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


SCALE = constant('scale', 0.1, np.float32)


@pytest.mark.parametrize(
    ('nodes', 'constants', 'told'),
    [
        (
            [('QuantizeLinear', ['x', 'scale', 'zero'], {})],
            [SCALE, constant('zero', 3, np.uint8)],
            r'QuantizeLinear with a zero point other than 0\. .*--int8-scheme symmetric',
        ),
        (
            [('QuantizeLinear', ['x', 'scale', 'zero'], {})],
            [SCALE, constant('zero', 0, np.uint8)],
            'QuantizeLinear of UINT8, not INT8',
        ),
        (
            [('DequantizeLinear', ['bias', 'scale', 'zero'], {})],
            [SCALE, constant('bias', [1], np.int32), constant('zero', 0, np.int32)],
            'DequantizeLinear of INT32, not INT8',
        ),
        (
            [('DequantizeLinear', ['weight', 'scales', 'zeros'], {'axis': 0})],
            [
                constant('weight', [[1], [2]], np.int8),
                constant('scales', [0.1, 0.2], np.float32),
                constant('zeros', [0, -1], np.int8),
            ],
            'DequantizeLinear with a zero point other than 0',
        ),
        (
            [('TopK', ['x', 'k'], {})],
            [constant('k', [4000], np.int64)],
            r'TopK of 4000 values, where fewer than 3840 .*nms_pre',
        ),
        (
            [('Constant', [], {'value_ints': [5000]}), ('TopK', ['x', 'y0'], {})],
            [],
            'TopK of 5000 values',
        ),
        (
            [('TopK', ['x', 'k'], {'sorted': 0})],
            [constant('k', [10], np.int64)],
            'TopK with sorted 0',
        ),
        (
            [('Add', ['one', 'one'], {}), ('ReduceL2', ['x', 'y0'], {})],
            [constant('one', [1], np.int64)],
            r'ReduceL2 with computed axes\. Make the axes of ReduceL2 an initializer',
        ),
        ([('Resize', ['x', '', 'k'], {'mode': 'cubic'})], [SCALE], 'Resize with mode cubic'),
    ],
)
def test_what_the_parser_excludes_is_refused(nodes, constants, told, tmp_path):
    with pytest.raises(UserError, match=f"(?s)TensorRT's parser does not take .*{told}"):
        required_release(save_nodes(tmp_path / 'model.onnx', nodes, constants))


def test_what_the_parser_takes_passes(tmp_path):
    nodes = [
        ('QuantizeLinear', ['x', 'scale', 'zero'], {}),
        ('DequantizeLinear', ['y0', 'scale', 'zero'], {}),
        ('Constant', [], {'value_ints': [1]}),
        ('ReduceL2', ['y1', 'y2'], {}),
        ('TopK', ['y3', 'k'], {}),
        ('Resize', ['y1', '', 'sizes'], {'mode': 'linear'}),
    ]
    constants = [
        SCALE,
        constant('zero', 0, np.int8),
        constant('k', [3839], np.int64),
        constant('sizes', [2.0, 2.0], np.float32),
    ]
    path = save_nodes(tmp_path / 'model.onnx', nodes, constants)
    assert required_release(path) == ((8, 5), ['opset 17'])


def save_nodes(path, nodes, constants):
    made = [
        helper.make_node(op, inputs, [f'y{i}'], **attributes)
        for i, (op, inputs, attributes) in enumerate(nodes)
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ('x', 'y0')]
    graph = helper.make_graph(made, 'graph', value[:1], value[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)]), path)
    return path
