"""Checks that backbone, neck and heads of a model fit together, before training starts.

The neck and the heads run once on maps of zeros. Errors that this cannot explain are warnings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..check_settings import is_checked
from ..errors import UserError
from . import EdgeNeXt

#: Heads that take the maps of the neck, or of the backbone if there is no neck.
HEADS = ('bbox_head', 'bbox_head_init', 'rpn_head', 'decode_head', 'auxiliary_head')
ROI_EXTRACTORS = ('bbox_roi_extractor', 'mask_roi_extractor', 'grid_roi_extractor')
#: Height and width of the image for which the maps are computed, in pixels.
IMAGE_SIZE = 128
#: Ratio from which two strides differ. Smaller differences come from rounding of small maps.
MIN_STRIDE_RATIO = 1.75


def check_fit(model: nn.Module, config: Mapping[str, Any] | None = None) -> None:
    """Checks channels and strides of a detector or segmentor with an EdgeNeXt backbone.

    Args:
        model: A model of OpenMMLab. Classifiers and models without EdgeNeXt are not checked.
        config: Full config whose ``checks`` may turn off ``channels`` and ``strides``.

    Raises:
        UserError: If the data preprocessor is for another number of input channels, the backbone
            pools its maps, channels of backbone, neck and heads differ, or strides of anchors and
            maps differ.
    """
    backbone, heads = getattr(model, 'backbone', None), list(_parts(model, HEADS))
    if isinstance(backbone, EdgeNeXt):
        _check_input(model, backbone)
    is_dense = heads or getattr(model, 'neck', None) is not None
    is_classifier = hasattr(model, 'head')
    if not isinstance(backbone, EdgeNeXt) or is_classifier or not is_dense:
        return
    if backbone.final_norm is not None:
        raise UserError(
            f'model.backbone has final_norm={backbone.final_norm!r}, so its last stage returns a '
            f'vector for classification, but {type(model).__name__} needs maps. Remove '
            '`final_norm`.'
        )
    channels, strides = (is_checked(config or {}, name) for name in ('channels', 'strides'))
    if channels or strides:
        size = _image_size(heads)
        maps = _head_inputs(model, size, channels)
        for path, head in heads if maps and channels else ():
            _check_channels(path, head, maps, backbone)
        for path, part, assumed in _parts_with_strides(model, heads) if maps and strides else ():
            _check_strides(f'{path} ({type(part).__name__})', assumed, maps, size, backbone)


def _check_input(model: nn.Module, backbone: EdgeNeXt) -> None:
    """Compares the data preprocessor with the input channels of the backbone."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    channels = backbone.downsample_layers[0][0].in_channels
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        if isinstance(values, Tensor) and values.numel() not in (1, channels):
            raise UserError(
                f'model.data_preprocessor.{name} has {values.numel()} values, but '
                f'model.backbone.in_channels is {channels}. Give one value for all channels, or '
                f'{channels} (mmdet and mmrotate accept 1 or 3).'
            )
    # mmpretrain and mmseg convert images of three channels only; mmdet selects three channels.
    converts = getattr(preprocessor, '_channel_conversion', False)
    if channels != 3 and converts and type(preprocessor).__name__ != 'SegDataPreProcessor':
        raise UserError(
            f'model.data_preprocessor swaps the colours, but model.backbone.in_channels is '
            f'{channels}. Set `bgr_to_rgb=False` in the data preprocessor.'
        )


def _head_inputs(model: nn.Module, size: tuple[int, int], check_channels: bool) -> list[Tensor]:
    """Returns the maps for an image of (H, W) that the heads get, or [] if they are unknown."""
    maps, neck = _backbone_maps(model.backbone, size), getattr(model, 'neck', None)
    if neck is None:
        return maps
    outputs, error = _run(neck, maps)
    if error is not None:
        if check_channels:
            _explain_neck_error(neck, error, model.backbone)
        return []
    maps = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    # A neck may return something else than maps.
    return maps if all(isinstance(x, Tensor) and x.dim() == 4 for x in maps) else []


def _parts(parent: nn.Module, names: Sequence[str], path: str = 'model') -> Iterator[Any]:
    """Yields the parts with these names and their paths in the config. Lists give each item."""
    for name in names:
        part = getattr(parent, name, None)
        if isinstance(part, nn.ModuleList):
            yield from ((f'{path}.{name}[{i}]', item) for i, item in enumerate(part))
        elif part is not None:
            yield f'{path}.{name}', part


def _image_size(heads: list[tuple[str, nn.Module]]) -> tuple[int, int]:
    """Returns the (H, W) of the images, which the anchors of some heads determine, as for SSD."""
    for _, head in heads:
        size = getattr(getattr(head, 'prior_generator', None), 'input_size', None)
        if size is not None:
            return (size, size) if isinstance(size, int) else (size[1], size[0])
    return IMAGE_SIZE, IMAGE_SIZE


def _backbone_maps(backbone: EdgeNeXt, size: tuple[int, int]) -> list[Tensor]:
    """Returns zeros in the shapes of the backbone's outputs for an image of (H, W)."""
    like = next(backbone.parameters())
    strides = [min(4 * 2**i, backbone.max_stride) for i in backbone.out_indices]
    return [
        like.new_zeros(1, dim, size[0] // stride, size[1] // stride)
        for dim, stride in zip(_output_channels(backbone), strides, strict=True)
    ]


def _output_channels(backbone: EdgeNeXt) -> list[int]:
    return [backbone.arch.dims[i] for i in backbone.out_indices]


@torch.no_grad()
def _run(module: nn.Module, maps: list[Tensor]) -> tuple[Any, Exception | None]:
    """Runs a copy of a neck or head and returns its output and its error."""
    try:
        return deepcopy(module).eval()(tuple(maps)), None
    except Exception as error:
        return None, error


def _explain_neck_error(neck: nn.Module, error: Exception, backbone: EdgeNeXt) -> None:
    """Raises an error if the channels explain the neck's error, and warns otherwise."""
    path = 'model.neck[0]' if isinstance(neck, nn.Sequential) else 'model.neck'
    neck = neck[0] if isinstance(neck, nn.Sequential) else neck
    given, wanted = _output_channels(backbone), getattr(neck, 'in_channels', None)
    if isinstance(wanted, (int, list, tuple)) and sorted(_as_list(wanted)) != sorted(given):
        descending = _as_list(wanted) == sorted(_as_list(wanted), reverse=True)
        if descending and len(given) > 1:
            given = sorted(given, reverse=True)  # some necks take the deepest map first
        raise _channel_error(path, neck, wanted, given, backbone)
    _warn_not_checked(path, neck, error)


def _check_channels(path: str, head: nn.Module, maps: list[Tensor], backbone: EdgeNeXt) -> None:
    wanted = getattr(head, 'in_channels', None)
    if not isinstance(wanted, (int, list, tuple)):
        return
    given, index = [x.shape[1] for x in maps], getattr(head, 'in_index', None)
    if index is not None:  # heads of mmseg choose from the maps
        if any(not -len(maps) <= i < len(maps) for i in _as_list(index)):
            raise UserError(
                f'{path} ({type(head).__name__}) takes the maps at in_index={index}, but there are '
                f'{len(maps)} maps with {given} channels. Set {path}.in_index, or return more maps '
                'with model.backbone.out_indices.'
            )
        given = [given[i] for i in _as_list(index)]
    concatenates = getattr(head, 'input_transform', None) == 'resize_concat'
    taken = [sum(given)] if concatenates else given
    if set(taken) == {wanted} if isinstance(wanted, int) else list(wanted) == taken:
        return
    # For some heads `in_channels` does not describe the maps, so it counts only if they fail.
    error = _run(head, maps)[1]
    if isinstance(error, RuntimeError) and 'implementation for device' not in str(error):
        choice = '' if index is None else f' at in_index={index}'
        single = isinstance(wanted, int) and not concatenates
        needed = given[0] if single else given
        raise _channel_error(path, head, f'{wanted}{choice}', needed, backbone)
    if error is not None:
        _warn_not_checked(path, head, error)


def _channel_error(
    path: str, part: nn.Module, wanted: Any, needed: Any, backbone: EdgeNeXt
) -> UserError:
    return UserError(
        f'model.backbone ({backbone.arch.dims} channels by stage) returns maps of '
        f'{_output_channels(backbone)} channels, but {path} ({type(part).__name__}) takes '
        f'{wanted}. Set {path}.in_channels={needed}.'
    )


def _warn_not_checked(path: str, part: nn.Module, error: Exception) -> None:
    first_line = str(error).strip().partition('\n')[0]
    print_log(
        f'{path} ({type(part).__name__}) was not checked, because it failed on maps of zeros: '
        f'{type(error).__name__}: {first_line}',
        'current',
        logging.WARNING,
    )


def _parts_with_strides(
    model: nn.Module, heads: list[tuple[str, nn.Module]]
) -> Iterator[tuple[str, nn.Module, list[float]]]:
    """Yields the parts that assume strides of their maps, with their paths and these strides."""
    parts = [(*h, getattr(getattr(h[1], 'prior_generator', None), 'strides', None)) for h in heads]
    extractors = _parts(getattr(model, 'roi_head', None), ROI_EXTRACTORS, 'model.roi_head')
    parts += [(*e, getattr(e[1], 'featmap_strides', None)) for e in extractors]
    for path, part, strides in parts:
        if isinstance(strides, (list, tuple)) and strides:
            yield path, part, [float(max(_as_list(s))) for s in strides]


def _check_strides(
    part: str,
    assumed: list[float],
    maps: list[Tensor],
    size: tuple[int, int],
    backbone: EdgeNeXt,
) -> None:
    strides = [max(s / n for s, n in zip(size, x.shape[-2:], strict=True)) for x in maps]
    message = (
        f'{part} is for maps of strides {_join(assumed)}, but its maps have strides '
        f'{_join(strides)}: model.backbone has out_indices={backbone.out_indices} and a largest '
        f'stride of {backbone.max_stride}.'
    )
    for actual, expected, x in zip(strides, assumed, maps, strict=False):
        # A map of one cell may have any larger stride.
        if max(x.shape[-2:]) == 1 and actual <= expected:
            continue
        if max(actual / expected, expected / actual) >= MIN_STRIDE_RATIO:
            raise UserError(
                f'{message} Boxes would be placed beside the objects. Choose maps with '
                'model.backbone.out_indices and output_stride, or set the strides of this part. '
                'To turn this check off, set checks=dict(strides=False) in the config.'
            )
    if len(strides) < len(assumed):
        print_log(f'{message} Levels are missing.', 'current', logging.WARNING)


def _join(values: Sequence[float]) -> str:
    return ', '.join(f'{round(value, 1):g}' for value in values)


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
