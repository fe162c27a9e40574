"""Checks that backbone, neck and heads fit together, before training starts.

Channels and strides are read off the maps that the neck makes of the backbone's, in a forward pass
on zeros. What that does not decide is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..check_settings import is_checked
from ..errors import UserError
from . import EdgeNeXt

#: Heads that take the maps of the neck, or of the backbone where there is none.
DENSE_HEADS = ('bbox_head', 'bbox_head_init', 'rpn_head')
SEGMENTATION_HEADS = ('decode_head', 'auxiliary_head')
EXTRACTORS = ('bbox_roi_extractor', 'mask_roi_extractor', 'grid_roi_extractor')
#: Sides of the images of which the maps would be, in pixels.
SIZE = 128
#: From which factor on a stride is wrong for certain; those of small maps round.
WRONG = 1.75


def check_fit(model: nn.Module, config: Mapping[str, Any] | None = None) -> None:
    """Checks that what follows an EdgeNeXt backbone takes what it returns.

    Args:
        model: A classifier, detector or segmentor of OpenMMLab; others pass.
        config: A full config, whose ``checks`` may switch off ``channels`` and ``strides``.

    Raises:
        UserError: If a detector or segmentor stands on a pooled backbone, the channels of backbone
            and neck or head disagree, or the strides of anchors and maps.
    """
    backbone = getattr(model, 'backbone', None)
    heads = [n for n in (*DENSE_HEADS, *SEGMENTATION_HEADS) if getattr(model, n, None) is not None]
    dense = heads or getattr(model, 'neck', None) is not None
    # A classifier has a `head`, and pools in the backbone or in its neck.
    if not isinstance(backbone, EdgeNeXt) or hasattr(model, 'head') or not dense:
        return
    if backbone.final_norm is not None:
        raise UserError(
            f'model.backbone has final_norm={backbone.final_norm!r}, with which its last stage '
            f'returns a vector for classification, but {type(model).__name__} needs maps. Leave '
            '`final_norm` out.'
        )
    channels, strides = (is_checked(config or {}, name) for name in ('channels', 'strides'))
    if channels or strides:
        size = _image_size(model, heads)
        maps = _maps_of_heads(model, size, channels)
        for name in heads * (bool(maps) and channels):
            for path, head in _members(model, name):
                _check_channels(path, head, maps, backbone)
        for path, part, wanted in _strided_parts(model, heads) if maps and strides else ():
            _check_strides(path, part, wanted, maps, size, backbone)


def _maps_of_heads(model: nn.Module, size: tuple[int, int], channels: bool) -> list[Tensor]:
    """The maps that the heads get for an image of ``size``; none where that is not known.

    Raises:
        UserError: If the neck does not take the backbone's channels, and they are checked.
    """
    maps = _maps_of(model.backbone, size)
    neck = getattr(model, 'neck', None)
    if neck is None:
        return maps
    outputs, error = _run(neck, maps)
    if error is not None:
        if channels:
            _report_neck(model.backbone, neck, size, error)
        return []
    maps = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    # A neck may have outputs of its own kind.
    return maps if all(isinstance(x, Tensor) and x.dim() == 4 for x in maps) else []


def _maps_of(backbone: EdgeNeXt, size: tuple[int, int]) -> list[Tensor]:
    """Zeros of the shapes that the backbone returns for an image of ``size`` (H, W)."""
    like = next(backbone.parameters())
    strides = [min(4 * 2**i, backbone.max_stride) for i in backbone.out_indices]
    return [
        like.new_zeros(1, backbone.arch.dims[i], size[0] // stride, size[1] // stride)
        for i, stride in zip(backbone.out_indices, strides, strict=True)
    ]


def _image_size(model: nn.Module, heads: list[str]) -> tuple[int, int]:
    """(H, W) of the images for which the anchors are, where they are for one size, as SSD's."""
    for name in heads:
        generator = getattr(getattr(model, name), 'prior_generator', None)
        if (size := getattr(generator, 'input_size', None)) is not None:
            return (size, size) if isinstance(size, int) else (size[1], size[0])
    return SIZE, SIZE


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Norms keep their statistics, and each part its mode, however it is set."""
    modes = {part: part.training for part in module.modules()}
    for part in modes:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _run(module: nn.Module, maps: list[Tensor]) -> tuple[Any, Exception | None]:
    """The output for maps, or the error."""
    with _evaluating(module):
        try:
            return module(tuple(maps)), None
        except Exception as error:
            return None, error


def _report_neck(
    backbone: EdgeNeXt, neck: nn.Module, size: tuple[int, int], error: Exception
) -> None:
    first = neck[0] if isinstance(neck, nn.Sequential) else neck
    given = [backbone.arch.dims[i] for i in backbone.out_indices]
    wanted = getattr(first, 'in_channels', None)
    path = 'model.neck[0]' if first is not neck else 'model.neck'
    if isinstance(wanted, (int, list, tuple)) and sorted(_as_list(wanted)) != sorted(given):
        descending = _as_list(wanted) == sorted(_as_list(wanted), reverse=True)
        order = sorted(given, reverse=True) if descending and len(given) > 1 else given
        raise _misfit(backbone, path, first, wanted, f'{path}.in_channels={order}')
    print_log(
        f'{path} ({type(first).__name__}) was not checked: it cannot run on maps of {given} '
        f'channels of an image of {size[0]}x{size[1]} pixels ({_first_line(error)}).',
        'current',
        logging.WARNING,
    )


def _misfit(
    backbone: EdgeNeXt, path: str, part: nn.Module, wanted: Any, setting: str, choice: str = ''
) -> UserError:
    given = [backbone.arch.dims[i] for i in backbone.out_indices]
    return UserError(
        f'model.backbone ({backbone.arch.dims} channels by stage) returns maps of {given} '
        f'channels, but {path} ({type(part).__name__}) takes {wanted}{choice}. Set {setting}.'
    )


def _members(model: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """A head, or the heads of a list, with their paths in the config."""
    part = getattr(model, name)
    if isinstance(part, nn.ModuleList):
        return [(f'model.{name}[{i}]', member) for i, member in enumerate(part)]
    return [(f'model.{name}', part)]


def _check_channels(path: str, head: nn.Module, maps: list[Tensor], backbone: EdgeNeXt) -> None:
    wanted = getattr(head, 'in_channels', None)
    if not isinstance(wanted, (int, list, tuple)):
        return
    index = getattr(head, 'in_index', None)  # mmseg's heads choose from the maps
    given = [x.shape[1] for x in maps]
    choice = ''
    if index is not None:
        choice = f' at in_index={index}'
        if any(not -len(maps) <= i < len(maps) for i in _as_list(index)):
            raise UserError(
                f'{path} ({type(head).__name__}) takes the maps{choice}, but there are '
                f'{len(maps)}, of {given} channels. Set {path}.in_index, or return more maps with '
                'model.backbone.out_indices.'
            )
        given = [given[i] for i in _as_list(index)]
        if getattr(head, 'input_transform', None) == 'resize_concat':
            given = [sum(given)]
    fits = set(given) == {wanted} if isinstance(wanted, int) else list(wanted) == given
    if fits:
        return
    error = _run(head, maps)[1]
    if isinstance(error, RuntimeError) and 'implementation for device' not in str(error):
        taken: Any = given[0] if isinstance(wanted, int) else given
        if index is not None and getattr(head, 'input_transform', None) == 'resize_concat':
            taken = [maps[i].shape[1] for i in _as_list(index)]  # their sum is what it takes
        raise _misfit(backbone, path, head, wanted, f'{path}.in_channels={taken}', choice)
    if error is not None:
        print_log(
            f'{path} ({type(head).__name__}) has in_channels={wanted}, and its maps have {given}. '
            f'Whether it can take them was not checked ({_first_line(error)}).',
            'current',
            logging.WARNING,
        )


def _strided_parts(
    model: nn.Module, heads: list[str]
) -> Iterator[tuple[str, nn.Module, list[float]]]:
    """What places anchors, points or regions on maps, and the strides that it assumes."""
    for name in heads:
        for path, head in _members(model, name):
            generator = getattr(head, 'prior_generator', None)
            if (wanted := _strides(getattr(generator, 'strides', None))) is not None:
                yield path, head, wanted
    roi_head = getattr(model, 'roi_head', None)
    for name in EXTRACTORS:
        part = getattr(roi_head, name, None)
        if part is not None:
            for path, extractor in _members(roi_head, name):
                wanted = _strides(getattr(extractor, 'featmap_strides', None))
                if wanted is not None:
                    yield path.replace('model.', 'model.roi_head.'), extractor, wanted


def _strides(value: Any) -> list[float] | None:
    """One number per level; generators keep pairs."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return [float(max(v)) if isinstance(v, (list, tuple)) else float(v) for v in value]


def _check_strides(
    path: str,
    part: nn.Module,
    wanted: list[float],
    maps: list[Tensor],
    size: tuple[int, int],
    backbone: EdgeNeXt,
) -> None:
    given = [round(max(s / n for s, n in zip(size, x.shape[-2:], strict=True)), 1) for x in maps]
    # How far a map of one place reaches says nothing.
    wrong = [
        max(have / want, want / have) >= WRONG
        for have, want, x in zip(given, wanted, maps, strict=False)
        if max(x.shape[-2:]) > 1 or have > want
    ]
    told = (
        f'{path} ({type(part).__name__}) is for maps of strides {_numbers(wanted)}, but those of '
        f'its maps are {_numbers(given)}: model.backbone has out_indices={backbone.out_indices} '
        f'and a largest stride of {backbone.max_stride}.'
    )
    if any(wrong):
        raise UserError(
            f'{told} Boxes would be placed beside the objects. Choose maps with '
            'model.backbone.out_indices and output_stride, or set the strides of this part. '
            'checks=dict(strides=False) in the config switches this check off.'
        )
    if len(given) < len(wanted):
        print_log(f'{told} Levels are missing.', 'current', logging.WARNING)


def _numbers(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'


def _as_list(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
