"""Settings of INT8."""

from __future__ import annotations

from typing import NamedTuple

#: Kinds of operators that become INT8.
KINDS = {
    'convolution': 'convolutions larger than 1x1: stem, downsampling, heads',
    'depthwise': 'depth-wise convolutions',
    'linear': 'products with weights: MLPs, projections, 1x1 convolutions',
    'attention': 'products of queries, keys and values',
}


class Int8Settings(NamedTuple):
    """How a network becomes INT8.

    Args:
        scheme: ``symmetric`` or ``asymmetric`` ranges; TensorRT supports symmetric ones only.
            Default: the first of the format.
        ranges: How ranges follow from activations, one of
            :data:`~edgenext_mm.runtime.formats.RANGES`; other than ``minmax`` only in ONNX files.
            Default: ``minmax``.
        keep_float: Kinds of operators that stay in floating point, of
            :data:`KINDS`; only in ONNX files. Default: none.
    """

    scheme: str | None = None
    ranges: str = 'minmax'
    keep_float: tuple[str, ...] = ()
