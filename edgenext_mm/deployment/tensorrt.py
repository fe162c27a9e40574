"""Whether TensorRT's parser knows the operators of an ONNX file, by its published lists.

Nothing here runs TensorRT.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from ..errors import UserError

#: What exported files of ours are made of, and the first release whose list has it. Up to 8.5:
#: docs/operators.md of onnx-tensorrt; later ones: TensorRT's release notes.
OPERATORS = {
    **dict.fromkeys(
        (
            'Abs', 'Add', 'And', 'ArgMax', 'BatchNormalization', 'Cast', 'Ceil', 'Clip', 'Concat',
            'Constant', 'ConstantOfShape', 'Conv', 'Cos', 'DequantizeLinear', 'Div', 'Equal', 'Erf',
            'Exp', 'Expand', 'Flatten', 'Floor', 'Gather', 'GatherElements', 'GatherND', 'Gemm',
            'Greater', 'GreaterOrEqual', 'Identity', 'InstanceNormalization', 'Less', 'LessOrEqual',
            'MatMul', 'Max', 'Min', 'Mul', 'Neg', 'Not', 'Or', 'Pow', 'QuantizeLinear', 'Range',
            'ReduceL2', 'ReduceMax', 'ReduceMean', 'ReduceSum', 'Relu', 'Reshape', 'Resize',
            'Shape', 'Sigmoid', 'Sin', 'Slice', 'Softmax', 'Split', 'Sqrt', 'Squeeze', 'Sub',
            'Tile', 'TopK', 'Transpose', 'Unsqueeze', 'Where',
        ),
        (8, 4),
    ),
    **dict.fromkeys(('HardSwish', 'Mod', 'NonMaxSuppression', 'Reciprocal'), (8, 5)),
    'LayerNormalization': (8, 6),
    'Gelu': (10, 0),
}  # fmt: skip
#: The latest opset of each release that raised it.
OPSETS = {(8, 4): 13, (8, 5): 17, (10, 0): 20, (11, 0): 25}


def required_release(path: str | Path) -> tuple[tuple[int, int], list[str]]:
    """The first TensorRT whose parser lists all operators of a file, and why not an earlier one.

    Args:
        path: Of an ONNX file.

    Returns:
        Major and minor number, and what asks for it: operators, or the opset.

    Raises:
        UserError: If the file cannot be read, or no release is known to have an operator.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's
        raise UserError(f'{path} cannot be read as ONNX: {error}') from error
    names = {node.op_type for node in model.graph.node}
    if unknown := names - OPERATORS.keys():
        raise UserError(
            f'{path} has operators that no list of TensorRT is known to have: '
            f'{", ".join(sorted(unknown))}.'
        )
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    needs = {name: OPERATORS[name] for name in names}
    needs[f'opset {opset}'] = min(r for r, latest in OPSETS.items() if latest >= opset)
    release = max(needs.values())
    return release, sorted(name for name, needed in needs.items() if needed == release)
