"""Whether TensorRT's parser takes the operators of an ONNX file, by its published documentation.

Sources: ``docs/operators.md`` of https://github.com/onnx/onnx-tensorrt (releases 8.4, 8.5 and
10.15) and TensorRT's release notes. Nothing here runs TensorRT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import UserError

#: Operators that exported files are made of, and the first release whose list has them.
OPERATORS = {
    **dict.fromkeys(
        (
            'Abs', 'Add', 'And', 'ArgMax', 'ArgMin', 'AveragePool', 'BatchNormalization', 'Cast',
            'Ceil', 'Clip', 'Concat', 'Constant', 'ConstantOfShape', 'Conv', 'ConvTranspose', 'Cos',
            'CumSum', 'DepthToSpace', 'DequantizeLinear', 'Div', 'Dropout', 'Einsum', 'Elu',
            'Equal', 'Erf', 'Exp', 'Expand', 'Flatten', 'Floor', 'Gather', 'GatherElements',
            'GatherND', 'Gemm', 'GlobalAveragePool', 'GlobalMaxPool', 'Greater', 'GreaterOrEqual',
            'HardSigmoid', 'Identity', 'If', 'InstanceNormalization', 'LeakyRelu', 'Less',
            'LessOrEqual', 'Log', 'LogSoftmax', 'Loop', 'MatMul', 'Max', 'MaxPool', 'Mean', 'Min',
            'Mul', 'Neg', 'Not', 'Or', 'PRelu', 'Pad', 'Pow', 'QuantizeLinear', 'Range', 'ReduceL1',
            'ReduceL2', 'ReduceLogSumExp', 'ReduceMax', 'ReduceMean', 'ReduceMin', 'ReduceProd',
            'ReduceSum', 'ReduceSumSquare', 'Relu', 'Reshape', 'Resize', 'Round', 'ScatterElements',
            'ScatterND', 'Shape', 'Sigmoid', 'Sign', 'Sin', 'Size', 'Slice', 'Softmax', 'Softplus',
            'SpaceToDepth', 'Split', 'Sqrt', 'Squeeze', 'Sub', 'Sum', 'Tan', 'Tanh', 'Tile', 'TopK',
            'Transpose', 'Trilu', 'Unsqueeze', 'Where', 'Xor',
        ),
        (8, 4),
    ),
    **dict.fromkeys(
        (
            'GridSample', 'HardSwish', 'IsNaN', 'LpNormalization', 'MeanVarianceNormalization',
            'Mod', 'NonMaxSuppression', 'NonZero', 'OneHot', 'Reciprocal', 'RoiAlign', 'Shrink',
        ),
        (8, 5),
    ),
    'LayerNormalization': (8, 6),
    **dict.fromkeys(('Gelu', 'GroupNormalization'), (10, 0)),
}  # fmt: skip
#: The latest opset of each release that raised it.
OPSETS = {(8, 4): 13, (8, 5): 17, (10, 0): 20, (11, 0): 25}
#: Top-k takes fewer values than this.
MAX_TOP_K = 3840
#: Which input holds the axes, where it must be a constant.
AXES = {
    **dict.fromkeys((name for name in OPERATORS if name.startswith('Reduce')), 1),
    'Squeeze': 1,
    'Unsqueeze': 1,
    'Slice': 3,
    'CumSum': 1,
}
#: Values that attributes may have, the default first.
ATTRIBUTES: dict[str, dict[str, tuple]] = {
    'BatchNormalization': {'training_mode': (0,)},
    'Resize': {
        'mode': ('nearest', 'linear'),
        'coordinate_transformation_mode': (
            'half_pixel', 'pytorch_half_pixel', 'tf_half_pixel_for_nn', 'asymmetric',
            'align_corners',
        ),
        'nearest_mode': ('round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'),
        'keep_aspect_ratio_policy': ('stretch',),
        'antialias': (0,),
    },
    'ScatterND': {'reduction': ('none',)},
    'TopK': {'sorted': (1,)},
}  # fmt: skip
#: Operators of which the first output alone is taken.
ONE_OUTPUT = ('LayerNormalization', 'MaxPool')
SYMMETRIC = 'Quantize it with symmetric ranges: export it with --int8-scheme symmetric.'


class Problem(NamedTuple):
    """Something that the documentation of the parser excludes.

    Args:
        what: An operator, and what is wrong with it.
        advice: What to change.
    """

    what: str
    advice: str


def required_release(path: str | Path) -> tuple[tuple[int, int], list[str]]:
    """The first TensorRT whose parser takes all operators of a file, and why not an earlier one.

    Args:
        path: Of an ONNX file.

    Returns:
        Major and minor number, and what asks for it: operators, or the opset.

    Raises:
        UserError: If the file cannot be read, or no release is known to take an operator as the
            file has it; says what to change.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's
        raise UserError(f'{path} cannot be read as ONNX: {error}') from error
    nodes = list(_nodes(model.graph))
    names = {_name(node) for node in nodes}
    if unknown := names - OPERATORS.keys():
        raise UserError(
            f'{path} has operators that no list of TensorRT is known to have: '
            f'{", ".join(sorted(unknown))}.'
        )
    if problems := restrictions(model.graph, nodes):
        found = '; '.join(f'{count} {problem.what}' for problem, count in problems.items())
        advice = ' '.join(dict.fromkeys(problem.advice for problem in problems))
        raise UserError(f"TensorRT's parser does not take {path}, which has {found}. {advice}")
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    needs = {name: OPERATORS[name] for name in names}
    newest = [r for r, latest in OPSETS.items() if latest >= opset]
    if not newest:
        raise UserError(
            f'{path} is of opset {opset}; TensorRT is known to take up to {max(OPSETS.values())}.'
        )
    needs[f'opset {opset}'] = min(newest)
    release = max(needs.values())
    return release, sorted(name for name, needed in needs.items() if needed == release)


def restrictions(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto] | None = None
) -> Counter[Problem]:
    """What the documentation excludes of operators that it lists, and how often a graph has it.

    Args:
        graph: Of a model.
        nodes: Its nodes with those of subgraphs. Default: found in the graph.
    """
    nodes = list(_nodes(graph) if nodes is None else nodes)
    constants = {w.name: w for w in graph.initializer}
    quantized: dict[str, int] = {}
    for node in nodes:
        if node.op_type == 'Constant':
            (value,) = _attributes(node).values()
            tensor = isinstance(value, onnx.TensorProto)
            constants[node.output[0]] = (
                value if tensor else numpy_helper.from_array(np.asarray(value))
            )
        elif node.op_type == 'Identity' and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        elif node.op_type == 'QuantizeLinear' and len(node.input) > 2:
            zero = constants.get(node.input[2])
            quantized[node.output[0]] = zero.data_type if zero is not None else TensorProto.UINT8
    found: Counter[Problem] = Counter()
    for node in nodes:
        found.update(_restrictions_of(node, constants, quantized))
    return found


def _restrictions_of(
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    quantized: dict[str, int],
) -> Iterator[Problem]:
    name, attributes = node.op_type, _attributes(node)
    for key, allowed in ATTRIBUTES.get(name, {}).items():
        value = attributes.get(key, allowed[0])
        value = value.decode() if isinstance(value, bytes) else value
        if value not in allowed:
            choices = ', '.join(map(str, allowed))
            yield Problem(f'{name} with {key} {value}', f'{key} of {name} may be {choices}.')
    if name in ONE_OUTPUT and any(node.output[1:]):
        yield Problem(f'{name} with several outputs', f'Use the first output of {name} alone.')
    if name in ('MaxPool', 'AveragePool') and set(attributes.get('dilations', ())) - {1}:
        yield Problem(f'{name} with dilations', f'The dilations of {name} must be 1.')
    axes = node.input[AXES[name]] if name in AXES and len(node.input) > AXES[name] else ''
    if axes and axes not in constants:
        yield Problem(f'{name} with computed axes', f'Make the axes of {name} an initializer.')
    if name == 'TopK':
        # A number that is computed from sizes is bounded by what is known when an engine is built.
        number = _value(constants, node.input[1]) if len(node.input) > 1 else attributes.get('k')
        if number is not None and int(np.max(number)) >= MAX_TOP_K:
            yield Problem(
                f'TopK of {int(np.max(number))} values, where fewer than {MAX_TOP_K} are taken',
                'Export it with fewer, for instance --cfg-options model.test_cfg.nms_pre=1000.',
            )
    if name in ('QuantizeLinear', 'DequantizeLinear'):
        yield from _quantization(node, constants, quantized)


def _quantization(
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    quantized: dict[str, int],
) -> Iterator[Problem]:
    zero = node.input[2] if len(node.input) > 2 else ''
    value = _value(constants, zero)
    if zero and value is None:
        yield Problem(f'{node.op_type} with a zero point that is computed', SYMMETRIC)
        return
    if value is not None and np.any(value != 0):
        yield Problem(f'{node.op_type} with a zero point other than 0', SYMMETRIC)
        return
    source = constants.get(node.input[0])
    if node.op_type == 'QuantizeLinear':
        default = _attributes(node).get('output_dtype', 0) or TensorProto.UINT8
        kind = constants[zero].data_type if zero else default
    elif source is not None:
        kind = source.data_type
    else:
        kind = quantized.get(node.input[0], TensorProto.INT8)
    if kind in (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT16, TensorProto.UINT16):
        yield Problem(f'{node.op_type} of {TensorProto.DataType.Name(kind)}, not INT8', SYMMETRIC)


def _value(constants: dict[str, onnx.TensorProto], name: str) -> np.ndarray | None:
    tensor = constants.get(name)
    return None if tensor is None else numpy_helper.to_array(tensor)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _name(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ('', 'ai.onnx') else f'{node.domain}.{node.op_type}'
