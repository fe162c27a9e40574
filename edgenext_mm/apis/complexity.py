"""Parameters and multiply-adds of models.

Multiply-adds are fvcore's flops, except for LayerNorm: fvcore counts five operations per element,
although one of its flops is a multiply-add elsewhere. Here an element counts three: one for the
variance, one for the normalisation, one for scale and shift. (The authors' figures leave out some
of the LayerNorms, because their code writes them with operations that fvcore does not count. With
fvcore's own rule, xxsmall has 261.92M instead of their 260.58M, small 1263.25M.)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import UserError


@dataclass(frozen=True)
class Complexity:
    """The theoretical cost of a model.

    Args:
        params: Number of trainable parameters.
        madds: Multiply-adds for one image, which fvcore calls flops.
        shape: (height, width) of that image in pixels.
        attention: Multiply-adds of the products of fused attention (queries with keys, and the
            result with values), which some publications leave out. Default: 0.
    """

    params: int
    madds: int
    shape: tuple[int, int]
    attention: int = 0


class _TensorMode(nn.Module):
    """An OpenMMLab model as a function of images alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor | Sequence[Tensor]:
        shape = tuple(x.shape[-2:])
        # Two-stage detectors clip their proposals to the image.
        sample = BaseDataElement(metainfo=dict(img_shape=shape, ori_shape=shape))
        return self.model(x, [sample] * len(x), mode='tensor')


def _layer_norm_madds(inputs: list[Any], outputs: list[Any]) -> int:
    return 3 * math.prod(inputs[0].type().sizes())


def _attention_madds(inputs: list[Any], outputs: list[Any]) -> int:
    query, key = (x.type().sizes() for x in inputs[:2])
    return 2 * math.prod(query) * key[-2]


def count_complexity(
    model: nn.Module, shape: Sequence[int], in_channels: int = 3, openmmlab: bool = False
) -> Complexity:
    """Counts parameters, and multiply-adds with fvcore.

    Args:
        model: A model that takes (1, in_channels, H, W) images.
        shape: (H, W) of the image in pixels.
        in_channels: Number of channels of the image. Default: 3.
        openmmlab: Whether the model is a complete OpenMMLab model, which is called with
            ``mode='tensor'``. Default: False.

    Raises:
        UserError: If fvcore is not installed.
    """
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError as error:
        raise UserError(
            'Counting multiply-adds needs fvcore, which is not installed. '
            'Install it with `pip install fvcore`.'
        ) from error
    height, width = shape
    x = torch.zeros(1, in_channels, height, width, device=next(model.parameters()).device)
    logging.getLogger('fvcore').setLevel(logging.ERROR)
    was_training = model.training
    analysis = FlopCountAnalysis(_TensorMode(model) if openmmlab else model, x)
    analysis.set_op_handle('aten::layer_norm', _layer_norm_madds)
    analysis.set_op_handle('aten::scaled_dot_product_attention', _attention_madds)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    model.eval()
    try:
        with torch.no_grad():
            madds = int(analysis.total())
            attention = int(analysis.by_operator()['scaled_dot_product_attention'])
    finally:
        model.train(was_training)
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Complexity(params, madds, (height, width), attention)
