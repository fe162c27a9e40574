"""The part of a model that goes into a file: from normalised images to the outputs of its head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .known_sizes import KnownSizes

#: Attributes that hold the head, by task.
HEADS = ('head', 'decode_head', 'roi_head', 'bbox_head')
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def find_head(model: nn.Module) -> str:
    """Returns the attribute name of a model's head.

    Raises:
        UserError: If the model has no head of a known name.
    """
    for name in HEADS:
        if isinstance(getattr(model, name, None), nn.Module):
            return name
    raise UserError(
        f'A {type(model).__name__} cannot be exported: it has none of the heads '
        f'{", ".join(HEADS)}. Choose a classifier, a detector such as GFL, Mask R-CNN or DINO, or '
        'a segmentor.'
    )


def last_head(model: nn.Module) -> Any:
    """Returns the head of a segmentor, the last one of a cascade."""
    head = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def predicts_whole(model: nn.Module) -> bool:
    """Whether the logits of a segmentor do not simply follow from calling its head.

    They do not for cascades of heads, and for heads that classify masks or refine points.
    """
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    return (
        isinstance(model.decode_head, nn.ModuleList)
        or type(model).encode_decode is not EncoderDecoder.encode_decode
        or type(model.decode_head).predict is not BaseDecodeHead.predict
    )


class Network(nn.Module):
    """Maps normalised (B, C, H, W) images to the tensors that the head returns, in order.

    Args:
        model: An OpenMMLab model with one head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head_name = find_head(model)
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs as one flat tuple."""
        return flatten(self.nested(x))

    def nested(self, x: Tensor) -> Any:
        """Returns the outputs as the head nests them, usually lists with one tensor per level."""
        if self.head_name == 'decode_head' and predicts_whole(self.model):
            size = tuple(x.shape[-2:])
            metas = [dict(img_shape=size, ori_shape=size, pad_shape=size)] * x.shape[0]
            with KnownSizes():
                return self.model.encode_decode(x, metas)
        return self.model.get_submodule(self.head_name)(self.model.extract_feat(x))

    def names(self, nested: Any) -> list[str]:
        """Names the outputs, such as ``logits`` or ``cls_score_0``.

        Names for detectors come from the parameters of the head's ``predict_by_feat``.
        """
        if self.head_name != 'bbox_head':
            parts = flatten(nested)
            return ['logits'] if len(parts) == 1 else [f'logits_{i}' for i in range(len(parts))]
        head = self.model.get_submodule(self.head_name)
        plurals = inspect.signature(head.predict_by_feat).parameters
        kinds = [name[: -2 if name.endswith('sses') else -1] for name in plurals]
        return [
            f'{kind}_{level}'
            for kind, part in zip(kinds, nested, strict=False)
            for level in range(len(flatten(part)))
        ]

    def cast(self, precision: str) -> nn.Module:
        """Converts this network to another precision, see :class:`Cast`."""
        return Cast(self, precision)


def describe_scores(model: nn.Module) -> dict[str, Any]:
    """Describes how the logits of a classifier become scores and classes.

    Returns:
        ``activation``, ``softmax`` or ``sigmoid``, and for several labels per image ``threshold``
        and ``topk``; nothing if only the model's own head can do it.
    """
    from mmpretrain.models.heads import ClsHead, MultiLabelClsHead

    head = model.head
    if isinstance(head, MultiLabelClsHead):
        return dict(activation='sigmoid', threshold=head.thr, topk=head.topk)
    predicts = ('predict', '_get_predictions')
    is_usual = isinstance(head, ClsHead) and all(
        getattr(type(head), name) is getattr(ClsHead, name) for name in predicts
    )
    return dict(activation='softmax') if is_usual else {}


class ScoreNetwork(Network):
    """Maps normalised (B, C, H, W) images to (B, classes) scores from 0 to 1.

    Args:
        model: A classifier.

    Raises:
        UserError: If its head has a prediction of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        found = describe_scores(model)
        if not found:
            raise UserError(
                f'How a {type(model.head).__name__} makes scores of logits is not known. Export '
                'the logits with --include none or preprocess.'
            )
        self.activation = found['activation']

    def names(self, nested: Any) -> list[str]:
        """Names the output."""
        return ['scores']

    def nested(self, x: Tensor) -> Tensor:
        """Returns the score of each class."""
        logits = super().nested(x)
        return logits.softmax(1) if self.activation == 'softmax' else logits.sigmoid()


class LabelNetwork(Network):
    """Maps normalised (B, C, H, W) images to (B, H, W) int32 classes: the arg max of the logits.

    Args:
        model: A segmentor.

    Raises:
        UserError: If the segmentor slides over images, or has one output channel.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if model.test_cfg.get('mode') == 'slide' or last_head(model).out_channels == 1:
            raise UserError(
                'Classes of pixels can be exported from segmentors of several classes that see an '
                'image at once. Export the logits with --include none.'
            )

    def names(self, nested: Any) -> list[str]:
        """Names the output."""
        return ['labels']

    def nested(self, x: Tensor) -> Tensor:
        """Returns the class of each pixel of the input."""
        logits = super().nested(x)
        align_corners = last_head(self.model).align_corners
        logits = F.interpolate(
            logits, size=x.shape[-2:], mode='bilinear', align_corners=align_corners
        )
        return logits.argmax(1).int()


class Preprocessed(nn.Module):
    """Maps (B, H, W, 3) uint8 red-green-blue images to the outputs of a network.

    Args:
        network: The network, for normalised images.
        preprocessing: ``preprocessing`` of the metadata.
    """

    def __init__(self, network: nn.Module, preprocessing: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(preprocessing[key]).float() for key in ('mean', 'std'))
        if preprocessing['channel_order'] == 'BGR':
            mean, std = mean.flip(0), std.flip(0)
        self.flips = preprocessing['channel_order'] == 'BGR'
        self.register_buffer('factor', 1 / std)
        self.register_buffer('offset', -mean / std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs of the network."""
        x = (pixels.float() * self.factor + self.offset).permute(0, 3, 1, 2)
        return self.network(x.flip(1) if self.flips else x)

    def cast(self, precision: str) -> nn.Module:
        """Converts the network; pixels are normalised in float32."""
        self.network = self.network.cast(precision)
        return self


def to_pixels(x: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Returns the (B, H, W, 3) uint8 red-green-blue pixels of (B, 3, H, W) normalised images."""
    mean, std = (torch.tensor(preprocessing[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    pixels = (x * std + mean).round().clamp(0, 255).byte()
    if preprocessing['channel_order'] == 'BGR':
        pixels = pixels.flip(1)
    return pixels.permute(0, 2, 3, 1).contiguous()


def from_pixels(pixels: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Returns (B, 3, H, W) normalised images of (B, H, W, 3) uint8 red-green-blue pixels."""
    mean, std = (torch.tensor(preprocessing[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    x = pixels.permute(0, 3, 1, 2).float()
    return ((x.flip(1) if preprocessing['channel_order'] == 'BGR' else x) - mean) / std


class Cast(nn.Module):
    """Runs a network in another precision, with float32 inputs and outputs.

    Args:
        network: The network; it is converted in place.
        precision: A key of :data:`DTYPES`.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.network = network.to(self.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs of the network; integer outputs keep their type."""
        outputs = self.network(x.to(self.dtype))
        return tuple(o.float() if o.is_floating_point() else o for o in outputs)


def flatten(outputs: Any) -> tuple[Tensor, ...]:
    """Returns the tensors in nested tuples, lists and dicts, in order.

    Raises:
        UserError: If there is anything other than tensors.
    """
    tensors: list[Tensor] = []
    _map_leaves(tensors.append, outputs, Tensor)
    return tuple(tensors)


def structure_of(outputs: Any) -> Any:
    """Returns the nesting of outputs: each tensor is replaced by its index in :func:`flatten`."""
    index = count()
    return _map_leaves(lambda _: next(index), outputs, Tensor)


def unflatten(outputs: Sequence[Tensor], structure: Any) -> Any:
    """Nests a flat sequence of tensors, the inverse of :func:`flatten`.

    Args:
        outputs: Tensors from :func:`flatten`.
        structure: Nesting from :func:`structure_of`.
    """
    return _map_leaves(lambda i: outputs[i], structure, int)


def _map_leaves(function: Callable[[Any], Any], nested: Any, leaf: type) -> Any:
    if isinstance(nested, leaf):
        return function(nested)
    if isinstance(nested, dict):
        return {key: _map_leaves(function, part, leaf) for key, part in nested.items()}
    if isinstance(nested, (tuple, list)):
        return type(nested)([_map_leaves(function, part, leaf) for part in nested])
    raise UserError(
        f'The head of this model returns a {type(nested).__name__} among its outputs. A file can '
        'only hold heads that return tensors, in tuples, lists or dicts.'
    )
