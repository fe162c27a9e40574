"""Puts EdgeNeXt into a config of OpenMMLab in place of its backbone."""

from __future__ import annotations

import itertools
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from ..config import load_config
from ..errors import UserError
from ..files import replacing
from ..models.arch import NUM_STAGES, Arch, build_arch
from ..models.building import build_model
from ..models.edgenext import OUTPUT_STRIDES
from ..requirements import import_task_library, quiet_libraries

#: ImageNet's mean and standard deviation of red, green and blue, for which all weights are.
NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
#: The optimizer in place of SGD, which trains transformers badly. It is that of mmdet's ConvNeXt.
OPTIMIZER = dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05)
#: Constructors of mmdet, mmseg and mmpretrain for layer-wise learning-rate decay.
LAYER_DECAY = ('LearningRateDecayOptimizerConstructor', 'LearningRateDecayOptimWrapperConstructor')
#: Heads that take the maps of the backbone if there is no neck.
HEADS = ('rpn_head', 'bbox_head', 'panoptic_head', 'decode_head', 'auxiliary_head', 'mask_head')
#: Necks that make a pyramid from maps of one stride. EdgeNeXt's maps are one already.
RESCALING_NECKS = ('Feature2Pyramid', 'MultiLevelNeck')
#: Necks after which auxiliary heads still take maps of the backbone.
PASSING_NECKS = ('JPU',)
#: Parts of the libraries that do not work everywhere, and ours, which do: the operator of the
#: rotated IoU loss only exists for a GPU, and mmdet's SSDHead cannot predict.
OWN_PARTS = {'RotatedIoULoss': 'edgenext_mm.RotatedIoULoss', 'SSDHead': 'edgenext_mm.SSDHead'}
#: Models, necks and backbones that only work together.
BOUND_TO_BACKBONE = {
    'DDRNet': 'returns a map for each of its two heads',
    'PIDNet': 'returns a map for each of its three branches',
    'RFP': 'feeds its maps back into a ResNet',
    'TridentFasterRCNN': 'has three branches in its ResNet',
}
#: Side in pixels of the image on which the maps of the backbone are measured.
IMAGE_SIZE = 256


class Map(NamedTuple):
    """A map of the backbone.

    Args:
        channels: Number of channels.
        stride: Pixels of the image for each cell.
    """

    channels: int
    stride: int


@dataclass
class Exchange:
    """What changes in a config when its backbone becomes EdgeNeXt.

    Args:
        base: What the new config inherits: a path, or ``mmdet::fcos/...``.
        settings: The settings that differ.
        notes: What was decided, in sentences.
    """

    base: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The text of the new config."""
        notes = [line for note in self.notes for line in textwrap.wrap(note, 98)]
        lines = [*(f'# {line}' for line in notes), f'_base_ = {self.base!r}']
        lines += ['', *(f'{name} = {_text(value)}' for name, value in self.settings.items())]
        return '\n'.join(lines) + '\n'


def _text(value: Any, indent: int = 0) -> str:
    """A value in Python, with dicts as calls, broken into lines if it is long."""
    is_dict, start, end = isinstance(value, dict), '[', ']'
    if is_dict:
        start, end, parts = 'dict(', ')', [(f'{k}=', v) for k, v in value.items()]
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        parts = [('', v) for v in value]
    else:
        return repr(value)
    line = start + ', '.join(name + _text(v) for name, v in parts) + end
    if len(line) + indent < 70:
        return line
    space = ' ' * (indent + 4)
    lines = [f'{space}{name}{_text(v, indent + 4)},' for name, v in parts]
    return '\n'.join([start, *lines, ' ' * indent + end])


def use_backbone(
    upstream: str | Path,
    out: str | Path,
    arch: str = 'small',
    weights: str | None = 'auto',
    keep_optimizer: bool = False,
) -> Exchange:
    """Writes a config that inherits another one and has EdgeNeXt as its backbone.

    The model is built before the file is kept, so that channels and strides are right.

    Args:
        upstream: A path, or ``LIBRARY::NAME``, such as ``mmdet::fcos/fcos_r50-...py``.
        out: The file to write.
        arch: Name of a variant of EdgeNeXt. Default: ``small``.
        weights: Initial weights of the backbone: a name of the zoo, a path or a URL; None for
            random ones. Default: ``auto``, the authors' ImageNet-1K weights of the variant.
        keep_optimizer: Whether SGD stays. Default: False, AdamW takes its place.

    Raises:
        UserError: If the config cannot be read, or EdgeNeXt cannot take the backbone's place; the
            message has the reason.
    """
    out = Path(out)
    if out.suffix != '.py':
        raise UserError(f'The new config needs a name that ends with .py, got {out}.')
    if '::' not in str(upstream) and Path(upstream).resolve() == out.resolve():
        raise UserError(f'{out} would inherit itself. Give the new config another name.')
    base = _base_from(upstream, out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary = Path(temporary)
        config = _read(base, temporary)
        exchange = exchange_backbone(config, base, arch, weights, keep_optimizer)
        temporary.write_text(exchange.text())
        _check(temporary)
    return exchange


def exchange_backbone(
    config: Config,
    base: str,
    arch: str = 'small',
    weights: str | None = 'auto',
    keep_optimizer: bool = False,
) -> Exchange:
    """Finds what has to change in a config for EdgeNeXt to take the place of its backbone.

    Args:
        config: The config.
        base: What a new config has to inherit to get this one.
        arch: See :func:`use_backbone`. Default: ``small``.
        weights: See :func:`use_backbone`. Default: ``auto``.
        keep_optimizer: See :func:`use_backbone`. Default: False.

    Raises:
        UserError: If EdgeNeXt cannot take the backbone's place; the message has the reason.
    """
    variant = build_arch(arch)
    wrappers, model = _find_model(config)
    _check_bound(model)
    old = measure_maps(config, model.backbone)
    exchange = Exchange(base)
    if _is_hourglass(model, old):
        stages, output_stride = tuple(range(NUM_STAGES)), 32
        changes = _pyramid(variant, old[0].channels)
    else:
        strides = [m.stride for m in old]
        if len(old) == NUM_STAGES and model.get('neck') and _rescales(model.neck):
            strides = [4, 8, 16, 32]
        resizes = config.get('default_scope') == 'mmseg'
        stages, output_stride = choose_stages(strides, model.backbone.type, resizes)
        changes = _consumers(model, old, variant, stages)
    exchange.notes.append(
        f'EdgeNeXt-{arch} in place of {model.backbone.type}: stages {stages} with the strides '
        f'{strides_of(stages, output_stride)} for maps of strides {[m.stride for m in old]}.'
    )
    changes = _merged(_own_parts(model, exchange.notes), changes)
    changes = _merged(changes, _initialisation(model))
    changes['backbone'] = _backbone(variant, stages, output_stride, weights)
    preprocessing = _preprocessing(config, model, wrappers, exchange.notes)
    for name in reversed(wrappers):
        changes = {name: changes}
    settings = dict(custom_imports=_custom_imports(config), runner_type='edgenext_mm.Runner')
    settings = _merged(_merged(settings, preprocessing), dict(model=changes))
    exchange.settings = _merged(settings, _optimizer(config, keep_optimizer, exchange.notes))
    if config.get('load_from'):
        exchange.settings['load_from'] = None
        exchange.notes.append('load_from is None: those weights are of the former backbone.')
    return exchange


# Reading and checking.


def _base_from(upstream: str | Path, folder: Path) -> str:
    """What a config in a folder has to inherit."""
    if '::' in str(upstream):
        return str(upstream)
    if not Path(upstream).is_file():
        raise UserError(
            f'{upstream} does not exist. Give the path of a config, or a name such as '
            "'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'."
        )
    return os.path.relpath(Path(upstream).resolve(), folder.resolve())


def _read(base: str, temporary: Path) -> Config:
    temporary.write_text(f'_base_ = {base!r}\n')
    try:
        config = load_config(temporary)
    except UserError as error:
        raise UserError(str(error).replace(str(temporary), base)) from error
    if not isinstance(config.get('model'), dict):
        raise UserError(f'{base} has no model.')
    return config


def _check(path: Path) -> None:
    """Builds the model of the new config, which checks channels and strides."""
    config = load_config(path)
    if 'teacher_ckpt' in config.model:  # it would be downloaded
        config.model.teacher_ckpt = None
    try:
        with quiet_libraries():
            build_model(config)
    except UserError:
        raise
    except Exception as error:  # constructors of libraries fail in many ways
        raise UserError(
            f'The model with EdgeNeXt cannot be built ({type(error).__name__}: {error}). Its other '
            'parts depend on the former backbone in a way that is not known.'
        ) from error


def _find_model(config: Config) -> tuple[list[str], Any]:
    """Returns the names that lead from ``model`` to the part with a backbone, and this part."""
    names: list[str] = []
    model: Any = config.model
    while 'backbone' not in model:
        inner = [name for name in ('detector', 'segmentor', 'model') if name in model]
        if not inner or not isinstance(model[inner[0]], dict):
            raise UserError(f'The model {config.model.get("type")} has no `backbone` to exchange.')
        names.append(inner[0])
        model = model[inner[0]]
    backbone = model.backbone
    if not isinstance(backbone, dict) or 'type' not in backbone:
        raise UserError(f'model.backbone must be a dict with a type, but is {backbone!r}.')
    if backbone['type'] == 'edgenext_mm.EdgeNeXt':
        raise UserError('This config has EdgeNeXt already. Set `model.backbone.arch` for another.')
    return names, model


def _check_bound(model: Any) -> None:
    parts: list[Any] = [model, model.backbone, *_as_list(model.get('neck') or [])]
    types = [part.get('type') for part in parts]
    for name in types:
        if name in BOUND_TO_BACKBONE:
            raise UserError(
                f'{name} {BOUND_TO_BACKBONE[name]}, so no other backbone can take its place.'
            )
    shared = (model.get('roi_head') or {}).get('shared_head')
    if shared:
        raise UserError(
            f'roi_head.shared_head ({shared.type}) is the last stage of the former backbone, so no '
            'other backbone can take its place. Choose the variant of this detector with an FPN.'
        )


# The backbone.


@torch.no_grad()
def measure_maps(config: Config, backbone: Mapping[str, Any]) -> list[Map]:
    """Builds a backbone of a library without its weights and measures its maps.

    Args:
        config: The config, whose ``default_scope`` counts.
        backbone: Config of the backbone.

    Raises:
        UserError: If it cannot be built, or returns something else than maps.
    """
    import_task_library(config.get('default_scope'))
    init_default_scope(config.get('default_scope', 'mmengine'))
    settings = {k: v for k, v in backbone.items() if k not in ('init_cfg', 'pretrained')}
    channels = settings.get('in_channels', 3)
    try:
        with quiet_libraries():
            network = MODELS.build(settings)
            network.eval()  # ResNet's returns None
            outputs = network(torch.zeros(1, channels, IMAGE_SIZE, IMAGE_SIZE))
    except Exception as error:  # backbones fail in many ways
        raise UserError(
            f'The backbone {backbone["type"]} does not run on an image of {IMAGE_SIZE} pixels here '
            f'({type(error).__name__}: {error}), so its maps are not known.'
        ) from error
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if not outputs or not all(isinstance(x, Tensor) and x.dim() == 4 for x in outputs):
        raise UserError(
            f'The backbone {backbone["type"]} returns something else than maps, which only heads '
            'made for it can use.'
        )
    # Layers without padding make maps a little smaller.
    strides = [2 ** round(math.log2(IMAGE_SIZE / x.shape[-1])) for x in outputs]
    return [Map(x.shape[1], stride) for x, stride in zip(outputs, strides, strict=True)]


def choose_stages(
    strides: Sequence[int], name: str, resizes: bool = False
) -> tuple[tuple[int, ...], int]:
    """Chooses the stages of EdgeNeXt that give maps of certain strides.

    Args:
        strides: Strides of the maps in pixels, in order. At the end, the same stride may be
            repeated, as by a dilated backbone: (4, 8, 8, 8).
        name: Name of the backbone that has these strides, for messages.
        resizes: Whether the parts that take the maps resize them, as in segmentors. Then maps
            of other strides become the stages with the nearest ones. Default: False.

    Returns:
        Indices of the stages, and the ``output_stride`` of EdgeNeXt.

    Raises:
        UserError: If there are no such stages.
    """
    count = len(strides)
    choices = [
        (stages, limit)
        for limit in OUTPUT_STRIDES
        for stages in itertools.combinations(range(NUM_STAGES), count)
        if (count > 1 and limit == 32) or stages[-1] == NUM_STAGES - 1
    ]

    def distance(choice: tuple[tuple[int, ...], int]) -> float:
        return sum(
            abs(math.log2(actual / wanted))
            for actual, wanted in zip(strides_of(*choice), strides, strict=True)
        )

    best = min(choices, key=distance, default=None)
    grows = all(a <= b for a, b in itertools.pairwise(strides))
    if best is None or (distance(best) > 0 and not (resizes and grows)):
        raise UserError(
            f'{name} returns maps of strides {list(strides)}. EdgeNeXt has four stages of strides '
            '4, 8, 16 and 32, of which the later ones can keep a stride of 8 or 16. The parts '
            'after this backbone are made for it.'
        )
    return best


def strides_of(stages: Sequence[int], output_stride: int) -> list[int]:
    """The strides of stages of EdgeNeXt in pixels."""
    return [min(4 * 2**i, output_stride) for i in stages]


def _backbone(
    arch: Arch, stages: Sequence[int], output_stride: int, weights: str | None
) -> dict[str, Any]:
    settings: dict[str, Any] = dict(
        _delete_=True, type='edgenext_mm.EdgeNeXt', arch=arch.name, out_indices=tuple(stages)
    )
    if output_stride != 32:
        settings['output_stride'] = output_stride
    settings['output_norms'] = True
    checkpoint = f'edgenext-{arch.name}_3rdparty_in1k' if weights == 'auto' else weights
    if checkpoint:
        settings['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)
    return settings


def _initialisation(model: Mapping[str, Any]) -> dict[str, Any]:
    """Removes weights of the former backbone that are given beside it."""
    return {name: None for name in ('pretrained', 'init_cfg') if model.get(name)}


# What takes the maps.


def _consumers(model: Any, old: Sequence[Map], arch: Arch, stages: Sequence[int]) -> dict[str, Any]:
    """Returns the changes of the parts that take the backbone's maps: the neck, or the heads."""
    channels = _Channels([m.channels for m in old], [arch.dims[i] for i in stages])
    neck = model.get('neck')
    if not neck or _rescales(neck):
        removed: dict[str, Any] = dict(neck=None) if neck else {}
        return removed | {name: _in_list(head, channels) for name, head in _heads(model)}
    changed = channels.exchange(_as_list(neck)[0], 'neck')
    changes = dict(neck=_in_list(neck, channels, only_first=True))
    # SSD's neck passes maps on, so its head gets the channels of the backbone, too.
    for name, head in _heads(model):
        if 'out_channels' in changed and head.get('in_channels') == neck.out_channels:
            changes[name] = dict(in_channels=changed['out_channels'])
        if _as_list(neck)[0].type in PASSING_NECKS and name == 'auxiliary_head':
            changes[name] = channels.exchange({**head, 'in_index': None}, name)
    return changes


def _rescales(neck: Any) -> bool:
    """Whether a neck makes a pyramid, from stride 4 to 32, of four maps of stride 16."""
    return _as_list(neck)[0].type in RESCALING_NECKS


def _is_hourglass(model: Any, maps: Sequence[Map]) -> bool:
    """Whether the head takes maps of stride 4 only, which a stack of networks makes."""
    head = model.get('bbox_head') or {}
    return {m.stride for m in maps} == {4} and 'num_feat_levels' in head


def _pyramid(arch: Arch, channels: int) -> dict[str, Any]:
    """Makes one map of stride 4 with all of the image from the maps of EdgeNeXt."""
    neck = dict(
        _delete_=True,
        type='mmdet.FPN',
        in_channels=list(arch.dims),
        out_channels=channels,
        num_outs=NUM_STAGES,
    )
    return dict(neck=neck, bbox_head=dict(num_feat_levels=1))


def _own_parts(part: Any, notes: list[str]) -> dict[str, Any]:
    """Exchanges the parts in :data:`OWN_PARTS`."""
    changes: dict[str, Any] = {}
    for name, value in part.items():
        if not isinstance(value, dict):
            continue
        inner = _own_parts(value, notes)
        kind = str(value.get('type')).rpartition('.')[2]
        if kind in OWN_PARTS and value['type'] != OWN_PARTS[kind]:
            inner['type'] = OWN_PARTS[kind]
            note = f'{kind} is {OWN_PARTS[kind]}: the original does not work everywhere.'
            if note not in notes:
                notes.append(note)
        if inner:
            changes[name] = inner
    return changes


def _heads(model: Any) -> Iterator[tuple[str, Any]]:
    for name in HEADS:
        if model.get(name):
            yield name, model[name]


def _in_list(part: Any, channels: _Channels, only_first: bool = False) -> Any:
    """The changes of a part; of a list of parts, mmengine needs all of them as a whole."""
    if not isinstance(part, (list, tuple)):
        return channels.exchange(part, part.type)
    count = 1 if only_first else len(part)
    changed = [{**inner, **channels.exchange(inner, inner.type)} for inner in part[:count]]
    return [ConfigDict(inner).to_dict() for inner in [*changed, *part[count:]]]


class _Channels:
    """Exchanges numbers of channels in the configs of parts.

    Args:
        old: Channels of the former backbone's maps.
        new: Channels of EdgeNeXt's maps, in the same order.
    """

    def __init__(self, old: Sequence[int], new: Sequence[int]) -> None:
        self.old, self.new = list(old), list(new)

    def exchange(self, part: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Returns the settings of a part that change."""
        if 'kernel_generate_head' in part:  # K-Net's first head takes the maps
            inner = self.exchange(part['kernel_generate_head'], f'{name}.kernel_generate_head')
            return dict(kernel_generate_head=inner)
        changed: dict[str, Any] = {}
        index = part.get('in_index')
        if 'in_channels' in part:
            changed['in_channels'] = self._of(part['in_channels'], index, f'{name}.in_channels')
        if part.get('c1_in_channels'):
            changed['c1_in_channels'] = self._of(
                part['c1_in_channels'], None, f'{name}.c1_in_channels'
            )
        out: Any = part.get('out_channels')
        passes_on = isinstance(out, (list, tuple)) and list(out[: len(self.old)]) == self.old
        if passes_on:  # SSD's neck
            changed['out_channels'] = type(out)(self.new) + out[len(self.old) :]
        return changed

    def _of(self, value: Any, index: Any, path: str) -> Any:
        if isinstance(value, (list, tuple)):
            kind: Any = type(value)
            if isinstance(index, (list, tuple)):
                return kind(self.new[i] for i in index)
            if list(value) == self.old:
                return kind(self.new)
            if list(value) == self.old[::-1]:
                return kind(self.new[::-1])
            if all(v in self.old for v in value):
                return kind(self.new[self._position(v)] for v in value)
        elif isinstance(index, int):
            return self.new[index]
        elif value in self.old:
            return self.new[self._position(value)]
        raise UserError(
            f'{path} is {value!r}, but the former backbone has maps of {self.old} channels. Which '
            'of the maps this part takes is not known.'
        )

    def _position(self, value: int) -> int:
        """The deepest map with a number of channels."""
        return len(self.old) - 1 - self.old[::-1].index(value)


# Everything else.


def _preprocessing(
    config: Config, model: Any, wrappers: Sequence[str], notes: list[str]
) -> dict[str, Any]:
    """Normalises as the weights of EdgeNeXt need it."""
    places = [([], config), (['model'], config.model), (['model', *wrappers], model)]
    settings: dict[str, Any] = {}
    for path, holder in places:
        path = [*path, 'data_preprocessor']
        part = holder.get('data_preprocessor')
        if part and 'data_preprocessor' in part:  # of semi-supervised detectors
            path, part = [*path, 'data_preprocessor'], part.data_preprocessor
        differs: Any = {
            k: v for k, v in NORMALISATION.items() if not _equal((part or {}).get(k), v)
        }
        if part and differs:
            for name in reversed(path):
                differs = {name: differs}
            settings = _merged(settings, differs)
    if settings:
        notes.append('The images are normalised as in the training of EdgeNeXt.')
    return settings


def _equal(value: Any, expected: Any) -> bool:
    return list(value or ()) == expected if isinstance(expected, list) else value is expected


def _custom_imports(config: Config) -> dict[str, Any]:
    """The modules that the config imports, and this package."""
    modules = _as_list((config.get('custom_imports') or {}).get('imports', ()))
    return dict(imports=[*(m for m in modules if m != 'edgenext_mm'), 'edgenext_mm'])


def _optimizer(config: Config, keep: bool, notes: list[str]) -> dict[str, Any]:
    wrapper = config.get('optim_wrapper') or {}
    changes: dict[str, Any] = {}
    if (wrapper.get('optimizer') or {}).get('type') == 'SGD':
        if keep:
            notes.append('The optimizer is still SGD: try lower learning rates.')
        else:
            changes['optimizer'] = dict(OPTIMIZER)
            if not wrapper.get('paramwise_cfg'):
                changes['paramwise_cfg'] = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
            notes.append(
                'AdamW with a learning rate of 1e-4 in place of SGD, as for other backbones with '
                'attention.'
            )
    if wrapper.get('constructor') in LAYER_DECAY:
        rate = (wrapper.get('paramwise_cfg') or {}).get('decay_rate', 0.9)
        changes['constructor'] = 'edgenext_mm.LayerDecayOptimWrapperConstructor'
        changes['paramwise_cfg'] = dict(
            _delete_=True, layer_decay_rate=rate, norm_decay_mult=0.0, flat_decay_mult=0.0
        )
        notes.append(f'Layer-wise learning-rate decay by {rate} with the layers of EdgeNeXt.')
    return dict(optim_wrapper=changes) if changes else {}


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts merged with others, which win."""
    merged = dict(settings)
    for name, value in changes.items():
        inner = merged.get(name)
        if isinstance(value, dict) and isinstance(inner, dict):
            value = _merged(inner, value)
        merged[name] = value
    return merged


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
