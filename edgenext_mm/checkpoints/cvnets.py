"""Names of weights in a DeepLabv3 of Apple's ml-cvnets, the code of the authors' segmentors.

Source: https://github.com/apple/ml-cvnets, cvnets/models/segmentation/heads/deeplabv3.py and
cvnets/modules/aspp_block.py. The authors attached such a file to
https://github.com/mmaaz60/EdgeNeXt/issues/5, but did not publish the encoder that they added to
ml-cvnets. Its names are therefore only known if they are those of their classifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .contents import shorten
from .key_maps import recognise, to_ours

_HEAD = 'seg_head.'
_ENCODER = 'encoder.'
#: Parts of the head: name in ml-cvnets after ``seg_head.``, and in mmseg's ``ASPPHead``.
_NAMES = (
    (r'aspp\.aspp_layer\.convs\.4\.aspp_pool\.conv_1x1\.', 'image_pool.1.'),
    (r'aspp\.aspp_layer\.convs\.(\d)\.', r'aspp_modules.\1.'),
    (r'aspp\.aspp_layer\.project\.', 'bottleneck.'),
    (r'classifier\.block\.conv\.', 'conv_seg.'),
)
#: Parts of a convolution with norm and activation, in ml-cvnets and in mmcv's ``ConvModule``.
_PARTS = (('block.conv.', 'conv.'), ('block.norm.', 'bn.'), ('block.act.', 'activate.'))


def is_cvnets(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether a state dict has the names of ml-cvnets' DeepLabv3."""
    return any(name.startswith(f'{_HEAD}aspp.aspp_layer.') for name in weights)


def from_cvnets(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts the weights of ml-cvnets' DeepLabv3 to mmseg's, with the same results.

    mmseg concatenates the pooled branch first, not last, and has a 3x3 convolution where ml-cvnets
    has a 1x1 convolution. The activation is not in the file; mmseg's default is ReLU.

    Args:
        weights: Weights with the names of ml-cvnets.

    Raises:
        UserError: If the names of the encoder are unknown, or mmseg has no such head.
    """
    encoder = {
        name.removeprefix(_ENCODER): value
        for name, value in weights.items()
        if name.startswith(_ENCODER) and not re.match(r'encoder\.(head|classifier)\.', name)
    }
    if recognise(encoder) is None:
        raise UserError(
            'The names of the encoder in this DeepLabv3 of ml-cvnets are unknown: '
            f'{shorten(encoder, 3)}. Only encoders with the names of a published EdgeNeXt can be '
            'loaded, such as encoder.stages.0.0.dwconv.weight.'
        )
    head = {k.removeprefix(_HEAD): v for k, v in weights.items() if k.startswith(_HEAD)}
    if any('.dw_conv.' in name for name in head):
        raise UserError(
            'This DeepLabv3 of ml-cvnets has separable convolutions. mmseg has no such head: its '
            'DepthwiseSeparableASPPHead has further layers.'
        )
    renamed = {f'decode_head.{_rename(name)}': value for name, value in head.items()}
    bottleneck = 'decode_head.bottleneck.conv.weight'
    if bottleneck in renamed:
        renamed[bottleneck] = _convert_bottleneck(renamed[bottleneck])
    return to_ours(encoder) | renamed


def _rename(name: str) -> str:
    for pattern, new in _NAMES:
        name = re.sub(f'^{pattern}', new, name)
    for old, new in _PARTS:
        name = name.replace(old, new)
    return name


def _convert_bottleneck(weight: Tensor) -> Tensor:
    """Converts the weight of the last convolution of the pyramid.

    Args:
        weight: (C, 5 C, 1, 1) weight, with the pooled branch last.

    Returns:
        (C, 5 C, 3, 3) weight, with the pooled branch first.
    """
    *branches, pooled = weight.chunk(5, dim=1)
    weight = torch.cat((pooled, *branches), dim=1)
    return F.pad(weight, (1, 1, 1, 1)) if weight.shape[-1] == 1 else weight
