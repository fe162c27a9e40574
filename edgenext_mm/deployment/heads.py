"""The part of a model that goes into a file: from normalised images to the outputs of its head."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

#: Attributes under which models keep their head, by task.
HEADS = ('head', 'decode_head', 'bbox_head')
#: What PyTorch calls the precisions that it computes in.
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def find_head(model: nn.Module) -> str:
    """The name of a model's head.

    Raises:
        UserError: If the model has no single head.
    """
    for name in HEADS:
        head = getattr(model, name, None)
        if (
            isinstance(head, nn.Module)
            and not isinstance(head, nn.ModuleList)
            and not hasattr(model, 'roi_head')
        ):
            return name
    raise UserError(
        f'A {type(model).__name__} cannot be exported: a model with one head can '
        f'({", ".join(HEADS)}), two-stage detectors cannot, nor can cascades of heads. Choose a '
        'classifier, a single-stage detector such as SSDLite, GFL or RetinaNet, or a segmentor.'
    )


class Network(nn.Module):
    """A model from its normalised (B, C, H, W) images to the tensors that its head gives, in order.

    Args:
        model: Any model with one head, as OpenMMLab builds it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head_name = find_head(model)
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs as one flat tuple, see :func:`flatten`."""
        return flatten(self.nested(x))

    def nested(self, x: Tensor) -> Any:
        """The outputs as the head returns them, usually lists with one tensor per level."""
        return self.model.get_submodule(self.head_name)(self.model.extract_feat(x))

    def names(self, nested: Any) -> list[str]:
        """Names of the outputs, such as ``logits`` or ``cls_score_0``.

        Outputs of detectors are named after the parameters of the head's ``predict_by_feat``.
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
        """This network in another precision, see :class:`Cast`."""
        return Cast(self, precision)


class Cast(nn.Module):
    """A network in another precision, with single precision around it.

    Args:
        network: Changed to that precision.
        precision: One of :data:`DTYPES`.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.network = network.to(self.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """As the network's."""
        outputs = self.network(x.to(self.dtype))
        return tuple(o.float() if o.is_floating_point() else o for o in outputs)


def flatten(outputs: Any) -> tuple[Tensor, ...]:
    """The tensors in nested tuples, lists and dicts, in order.

    Raises:
        UserError: If there is anything but tensors.
    """
    if isinstance(outputs, Tensor):
        return (outputs,)
    if not isinstance(outputs, (tuple, list, dict)):
        raise UserError(
            f'The head of this model gives a {type(outputs).__name__} among its outputs; a file '
            'can hold heads that give tensors only.'
        )
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return tuple(tensor for part in parts for tensor in flatten(part))


def structure_of(outputs: Any, positions: Iterator[int] | None = None) -> Any:
    """How outputs are nested: each tensor is replaced by its position in :func:`flatten`."""
    positions = count() if positions is None else positions
    if isinstance(outputs, Tensor):
        return next(positions)
    if isinstance(outputs, dict):
        return {key: structure_of(part, positions) for key, part in outputs.items()}
    return type(outputs)([structure_of(part, positions) for part in outputs])


def unflatten(outputs: Sequence[Tensor], structure: Any) -> Any:
    """What :func:`flatten` was given, from its result and :func:`structure_of` it."""
    if isinstance(structure, int):
        return outputs[structure]
    if isinstance(structure, dict):
        return {key: unflatten(outputs, part) for key, part in structure.items()}
    return type(structure)([unflatten(outputs, part) for part in structure])
