"""Computes the program of a Core ML file in PyTorch, to check conversions where Core ML is missing.

The meaning of each operator follows Apple's description of MIL, not that of the model from which
the program was made: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

#: Largest finite value in half precision.
_FP16_MAX = 65504.0


class Program:
    """The main function of an ML program.

    Args:
        spec: The specification of a Core ML model.
        weights_dir: Folder of its weights.

    Raises:
        UserError: If the program has operators that are not known here; names them.
    """

    def __init__(self, spec: Any, weights_dir: str) -> None:
        from coremltools.converters.mil.frontend.milproto.load import load

        function = load(spec, spec.specificationVersion, weights_dir).functions['main']
        self._operations = list(function.operations)
        self._outputs = [output.name for output in function.outputs]
        kinds = {operation.op_type for operation in self._operations}
        if unknown := sorted(kinds - set(OPERATORS) - {'const'}):
            raise UserError(f'The program has operators that are unknown here: {unknown}.')

    @torch.no_grad()
    def __call__(self, **inputs: Tensor) -> dict[str, Any]:
        """Returns the outputs by name: tensors, of a classifier a class name and a dict of scores.

        Args:
            inputs: The inputs by name.

        Raises:
            UserError: If a value of a half-precision program is too large for half precision.
        """
        values: dict[str, Any] = dict(inputs)
        for operation in self._operations:
            if operation.op_type == 'const':
                continue
            arguments = {name: _read(value, values) for name, value in operation.inputs.items()}
            result = OPERATORS[operation.op_type](**arguments)
            results = result if isinstance(result, (list, tuple)) else [result]
            for output, tensor in zip(operation.outputs, results, strict=True):
                if isinstance(tensor, Tensor):
                    _check(operation, output, tensor)
                values[output.name] = tensor
        outputs = {name: values[name] for name in self._outputs}
        return {k: v.float() if isinstance(v, Tensor) else v for k, v in outputs.items()}


def _read(value: Any, values: Mapping[str, Any]) -> Any:
    """Returns the value of an input of an operation: computed before, or constant."""
    if isinstance(value, (list, tuple)):
        return [_read(part, values) for part in value]
    if value is None or value.name in values:
        return value and values[value.name]
    constant = value.val
    is_array = isinstance(constant, np.ndarray)
    if is_array and (constant.dtype.kind == 'f' or constant.dtype in (np.int8, np.uint8)):
        return torch.from_numpy(np.array(constant, np.float32))
    return constant.tolist() if isinstance(constant, (np.ndarray, np.generic)) else constant


def _check(operation: Any, output: Any, tensor: Tensor) -> None:
    """Refuses results that differ from what the program declares."""
    declared = tuple(n for n in output.shape)
    if all(isinstance(n, (int, np.integer)) for n in declared) and declared != tuple(tensor.shape):
        raise UserError(f'{operation.name} gives {tuple(tensor.shape)} instead of {declared}.')
    half = 'fp16' in str(output.dtype)
    if half and tensor.is_floating_point() and not tensor.abs().max() <= _FP16_MAX:
        raise UserError(f'{operation.name} overflows half precision. Use --precision fp32.')


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32)


def _conv(
    x: Tensor, weight: Tensor, strides: Sequence[int], pad_type: str, dilations: Sequence[int],
    groups: int, bias: Tensor | None = None, pad: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    return F.conv2d(_padded(x, pad_type, pad), weight, bias, strides, 0, dilations, groups)


def _padded(x: Tensor, pad_type: str, pad: Sequence[int] | None, value: float = 0) -> Tensor:
    if pad_type == 'valid':
        return x
    if pad_type != 'custom' or pad is None:
        raise UserError(f'The pad_type {pad_type!r} is unknown here.')
    top, bottom, left, right = pad
    return F.pad(x, (left, right, top, bottom), value=value)


def _pool(
    reduce: Callable[..., Tensor], value: float, x: Tensor, kernel_sizes: Sequence[int],
    strides: Sequence[int], pad_type: str, pad: Sequence[int] | None = None,
    ceil_mode: bool = False, exclude_padding_from_average: bool = False,
) -> Tensor:  # fmt: skip
    if ceil_mode or (exclude_padding_from_average and any(pad or ())):
        raise UserError('Pooling in this way is unknown here.')
    return reduce(_padded(x, pad_type, pad, value), kernel_sizes, strides)


def _layer_norm(
    x: Tensor, axes: Sequence[int], epsilon: float,
    gamma: Tensor | None = None, beta: Tensor | None = None,
) -> Tensor:  # fmt: skip
    variance, mean = torch.var_mean(x, dim=list(axes), correction=0, keepdim=True)
    x = (x - mean) / (variance + epsilon).sqrt()
    x = x if gamma is None else x * gamma
    return x if beta is None else x + beta


def _split(
    x: Tensor, axis: int, split_sizes: Sequence[int] | None = None, num_splits: int | None = None
) -> list[Tensor]:
    return list(x.split(split_sizes or x.shape[axis] // (num_splits or 1), axis))


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _gelu(x: Tensor, mode: str = 'EXACT') -> Tensor:
    if mode != 'EXACT':
        raise UserError(f'The GELU {mode!r} is unknown here.')
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def _pad(x: Tensor, pad: Sequence[int], mode: str = 'constant', constant_val: float = 0) -> Tensor:
    if mode != 'constant':
        raise UserError(f'Padding by {mode} is unknown here.')
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)]  # for the last dimensions, in order
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=constant_val)


def _slice(
    x: Tensor, begin: Sequence[int], end: Sequence[int], stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None, end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:  # fmt: skip
    index: list[Any] = []
    for i in range(x.dim()):
        if squeeze_mask is not None and squeeze_mask[i]:
            index.append(begin[i])
            continue
        first = None if begin_mask is not None and begin_mask[i] else begin[i]
        last = None if end_mask is not None and end_mask[i] else end[i]
        index.append(slice(first, last, stride[i] if stride is not None else None))
    return x[tuple(index)]


def _upsample_bilinear(
    x: Tensor, scale_factor_height: float, scale_factor_width: float, align_corners: bool,
    half_pixel_centers: bool | None = None,
) -> Tensor:  # fmt: skip
    if not align_corners and half_pixel_centers is False:
        raise UserError('Bilinear upsampling without half-pixel centres is unknown here.')
    size = round(x.shape[2] * scale_factor_height), round(x.shape[3] * scale_factor_width)
    return F.interpolate(x, size, mode='bilinear', align_corners=align_corners)


def _upsample_nearest(x: Tensor, scale_factor_height: float, scale_factor_width: float) -> Tensor:
    return x.repeat_interleave(round(scale_factor_height), 2).repeat_interleave(
        round(scale_factor_width), 3
    )


def _expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _classify(probabilities: Tensor, classes: Sequence[str]) -> tuple[str, dict[str, float]]:
    scores = dict(zip(classes, probabilities.flatten().tolist(), strict=True))
    return max(scores, key=lambda name: scores[name]), scores


def _dequantize(quantized_data: Tensor, zero_point: Any, scale: Any, axis: int) -> Tensor:
    shape = [1] * quantized_data.dim()
    shape[axis] = -1
    scale, zero_point = (_tensor(value).float().reshape(shape) for value in (scale, zero_point))
    return ((quantized_data - zero_point) * scale).half().float()  # such programs are in FP16


#: Operators by their names in MIL.
OPERATORS: dict[str, Callable[..., Any]] = {
    'abs': lambda x: x.abs(),
    'add': lambda x, y: _tensor(x) + _tensor(y),
    'avg_pool': lambda **inputs: _pool(F.avg_pool2d, 0, **inputs),
    'batch_norm': lambda x, mean, variance, gamma=None, beta=None, epsilon=1e-5: F.batch_norm(
        x, mean, variance, gamma, beta, eps=epsilon
    ),
    'cast': lambda x, dtype: x.long() if 'int' in dtype else x.float(),
    'classify': _classify,
    'clip': lambda x, alpha, beta: x.clamp(alpha, beta),
    'concat': lambda values, axis, interleave=False: torch.cat(values, axis),
    'constexpr_affine_dequantize': _dequantize,
    'conv': _conv,
    'exp': lambda x: x.exp(),
    'expand_dims': _expand_dims,
    'floor_div': lambda x, y: torch.floor(_tensor(x) / _tensor(y)),
    'gelu': _gelu,
    'inverse': lambda x, epsilon=1e-4: 1 / (x + epsilon),
    'layer_norm': _layer_norm,
    'linear': lambda x, weight, bias=None: F.linear(x, weight, bias),
    'matmul': _matmul,
    'max_pool': lambda **inputs: _pool(F.max_pool2d, -torch.inf, **inputs),
    'maximum': lambda x, y: torch.maximum(_tensor(x), _tensor(y)),
    'mul': lambda x, y: _tensor(x) * _tensor(y),
    'pad': _pad,
    'pow': lambda x, y: _tensor(x) ** _tensor(y),
    'real_div': lambda x, y: _tensor(x) / _tensor(y),
    'reduce_argmax': lambda x, axis, keep_dims, output_dtype='int32': x.argmax(axis, keep_dims),
    'reduce_max': lambda x, axes, keep_dims: x.amax(axes, keep_dims),
    'reduce_mean': lambda x, axes, keep_dims: x.mean(axes, keep_dims),
    'reduce_sum': lambda x, axes, keep_dims: x.sum(axes, keep_dims),
    'relu': lambda x: x.relu(),
    'relu6': lambda x: x.clamp(0, 6),
    'reshape': lambda x, shape: x.reshape(shape),
    'rsqrt': lambda x, epsilon=1e-12: 1 / (x + epsilon).sqrt(),
    'sigmoid': lambda x: x.sigmoid(),
    'sigmoid_hard': lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    'slice_by_index': _slice,
    'softmax': lambda x, axis: x.softmax(axis),
    'softplus': lambda x: F.softplus(x),
    'split': _split,
    'sqrt': lambda x: x.sqrt(),
    'square': lambda x: x * x,
    'squeeze': lambda x, axes: x.squeeze(tuple(axes)),
    'stack': lambda values, axis: torch.stack(values, axis),
    'sub': lambda x, y: _tensor(x) - _tensor(y),
    'thresholded_relu': lambda x, alpha: torch.where(x >= alpha, x, torch.zeros_like(x)),
    'tile': lambda x, reps: x.repeat(tuple(reps)),
    'transpose': lambda x, perm: x.permute(perm),
    'upsample_bilinear': _upsample_bilinear,
    'upsample_nearest_neighbor': _upsample_nearest,
}
