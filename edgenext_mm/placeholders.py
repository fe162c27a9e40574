"""Settings that follow from others: ``'$name'`` in a config stands for the setting ``name``.

The recipes for custom data (``configs/*/*_custom.py``) are written with such placeholders. They are
replaced when all inheritance is done, so that a config that inherits a recipe changes the class
count of all heads, say, by its ``data_root`` alone. A setting that the config does not have is
derived: from the data, or from other settings. ``docs/custom_data.md`` lists all of them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from mmengine.config import Config

from .datasets.custom import anchors
from .datasets.custom.layout import CustomData
from .datasets.palette import IGNORED, voc_palette
from .errors import UserError
from .models.arch import build_arch

_PLACEHOLDER = re.compile(r'\$([a-zA-Z_]\w*)')
#: Settings of the recipes that must be positive integers.
_COUNTS = ('batch_size', 'max_epochs', 'val_interval')
#: Other settings from which settings are derived.
_INPUTS = ('data_root', 'arch', 'pretrained', 'image_size', 'lr_pretrained', 'lr_from_scratch')
#: Settings that are (width, height) in pixels, or one number for a square.
_SIZES = ('image_size', 'crop_size')


def with_placeholders_replaced(config: Config) -> Config:
    """Replaces all placeholders.

    Args:
        config: A config. Only those with a ``task`` have placeholders; others are returned
            unchanged, and so are configs without placeholders.

    Returns:
        A config in which each ``'$name'`` is replaced by the value of the setting, and ``$name``
        within a longer text by its text. ``dict(type='Pretrained', checkpoint=None)`` becomes None.
        It has no ``task``, so that it is not changed again.

    Raises:
        UserError: If a name is unknown, a setting is invalid, or the data cannot be read.
    """
    raw = config._cfg_dict
    if 'task' not in raw or not _names_in(raw):
        return config
    filled = _Settings(raw).fill(raw)
    del filled['task']  # names of classes may look like placeholders
    changed = Config(filled, filename=config.filename, env_variables=config.env_variables)
    object.__setattr__(changed, '_imported_names', config._imported_names)
    return changed


def known_settings(config: Mapping[str, Any]) -> set[str]:
    """Names of the settings that have an effect by placeholders; empty for other configs."""
    if 'task' not in config:
        return set()
    return {*DERIVED, *_COUNTS, *_INPUTS, *_names_in(config)}


def _names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_names_in, dict.values(value)))
    if isinstance(value, (list, tuple)):
        return set().union(*map(_names_in, value))
    return set(_PLACEHOLDER.findall(value)) if isinstance(value, str) else set()


class _Settings:
    """The settings of a config, and those that follow from them.

    Args:
        config: The settings with placeholders.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self._values: dict[str, Any] = {}
        self._pending: list[str] = []
        for name in _COUNTS:
            value = config.get(name, 1)
            if not (isinstance(value, int) and value > 0) and not _names_in(value):
                raise UserError(f'`{name}` must be a positive integer, got {value!r}.')

    @cached_property
    def data(self) -> CustomData:
        """The training data."""
        return CustomData(self['data_root'], self['task'])

    @cached_property
    def boxes(self) -> Any:
        """Boxes of the training data in pixels of the input, (N, 5)."""
        keep_ratio = self.config.get('keep_ratio', True)
        return anchors.resized(self.data.boxes(), self['image_size'], keep_ratio)

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._pending:
            raise UserError(f'The settings {", ".join(self._pending)} refer to each other.')
        self._pending.append(name)
        if name in self.config:
            value = self.fill(self.config[name])
            value = self._size(name, value) if name in _SIZES else value
        elif name in DERIVED:
            value = DERIVED[name](self)
        else:
            raise UserError(
                f"The config contains '${name}', but it has no setting `{name}`. Set it, or use "
                f'one of {", ".join(sorted(DERIVED))}.'
            )
        self._pending.pop()
        self._values[name] = value
        return value

    def _size(self, name: str, value: Any) -> int | tuple[int, int]:
        """A number for classification, else (width, height); one number is a square."""
        square = isinstance(value, int) and not isinstance(value, bool)
        sides = [value] * 2 if square else value
        pair = isinstance(sides, (list, tuple)) and len(sides) == 2
        valid = pair and all(isinstance(side, int) and side > 0 for side in sides)
        one = self.config['task'] == 'classification'
        if not valid or (one and not square):
            wanted = 'a number of pixels' if one else '(width, height) in pixels'
            raise UserError(f'`{name}` must be {wanted}, got {value!r}.')
        return value if one else tuple(sides)

    def fill(self, value: Any) -> Any:
        """Replaces the placeholders in a value."""
        if isinstance(value, dict):
            filled = {key: self.fill(inner) for key, inner in dict.items(value)}
            no_weights = filled.get('type') == 'Pretrained' and 'checkpoint' in filled
            return None if no_weights and filled['checkpoint'] is None else filled
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.fill, value))
        if not isinstance(value, str):
            return value
        if found := _PLACEHOLDER.fullmatch(value):
            return self[found[1]]
        return _PLACEHOLDER.sub(lambda match: str(self[match[1]]), value)


# Model.


def _weights(settings: _Settings) -> str | None:
    """Initial weights of the backbone: a name, path or URL."""
    pretrained = settings['pretrained']
    if pretrained is True:
        arch = build_arch(settings['arch'])
        if arch.name is None:
            raise UserError(
                '`pretrained = True` needs the name of a variant as `arch`. Set `pretrained` to '
                'the path of a checkpoint, or to False.'
            )
        return f'edgenext-{arch.name}_3rdparty_in1k'
    return pretrained or None


def _stage_dims(settings: _Settings) -> list[int]:
    """Number of channels of the maps that the backbone returns."""
    dims = build_arch(settings['arch']).dims
    return [dims[i] for i in settings.config['model']['backbone'].get('out_indices', (3,))]


def _layer_scale(settings: _Settings) -> float:
    """Initial layer scale. From 1e-6, short trainings from random weights learn late."""
    return 1e-6 if settings['weights'] else 1.0


# Data.


def _height_width(name: str) -> Callable[[_Settings], tuple[int, int]]:
    """A size as height and width; some transforms expect this order."""

    def reverse(settings: _Settings) -> tuple[int, int]:
        width, height = settings[name]
        return height, width

    return reverse


def _num_workers(settings: _Settings) -> int:
    """Processes that load images. Without a GPU they would take the cores from the training."""
    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0


def _palette(settings: _Settings) -> list[list[int]]:
    """VOC's colours of the classes; from its second one on if the first class is not background."""
    return voc_palette()[: settings['num_classes']].tolist()


def _annotation_file(split: str) -> Callable[[_Settings], str]:
    """The annotation file that a data loader reads, for its metric."""

    def find(settings: _Settings) -> str:
        dataset = settings.fill(settings.config[f'{split}_dataloader']['dataset'])
        return f'{dataset["data_root"]}/{dataset["ann_file"]}'

    return find


def _drop_last(settings: _Settings) -> bool:
    """Whether the last batch of an epoch has one image, on which BatchNorm cannot train."""
    images = math.ceil(settings.data.num_images() / int(os.environ.get('WORLD_SIZE', 1)))
    return images > settings['batch_size'] > 1 and images % settings['batch_size'] == 1


# Anchors.


def _anchor_scale(settings: _Settings) -> float:
    """Side of a square anchor of a detector with an FPN, divided by the stride of its map."""
    names = ('default_anchor_scale', 'anchor_strides', 'anchor_ratios')
    return anchors.fit_fpn_scale(settings.boxes, *(settings[name] for name in names))


def _ssd_sizes(settings: _Settings) -> list[float]:
    return [fraction * settings['image_size'][0] for fraction in settings['anchor_sizes']]


def _ssd_strides(settings: _Settings) -> list[tuple[float, float]]:
    width, height = settings['image_size']
    return [(width / w, height / h) for w, h in anchors.ssd_map_sizes((width, height))]


# Schedule.


def _lr(settings: _Settings) -> float:
    """The learning rate for the batch size ``auto_scale_lr.base_batch_size``."""
    return settings['lr_pretrained' if settings['weights'] else 'lr_from_scratch']


def _warmup_epochs(settings: _Settings) -> float:
    """A twentieth of the training; in a training of one epoch, half of it.

    A classifier from random weights has a fifth, at most ten epochs: with less, it may never leave
    the loss of guessing.
    """
    max_epochs = settings['max_epochs']
    if max_epochs == 1:
        return 0.5
    least = 1
    if settings['task'] == 'classification' and not settings['weights']:
        least = min(10, math.ceil(max_epochs / 5))
    return max(least, math.ceil(max_epochs / 20))


#: Settings that a config need not have.
DERIVED: dict[str, Callable[[_Settings], Any]] = {
    # Model.
    'weights': _weights,
    'stage_dims': _stage_dims,
    'embed_dim': lambda s: build_arch(s['arch']).dims[-1],
    'layer_scale': _layer_scale,
    # Data.
    'classes': lambda s: s.data.classes(),
    'num_classes': lambda s: len(s['classes']),
    'palette': _palette,
    'ignore_index': lambda s: IGNORED,
    'img_suffix': lambda s: s.data.img_suffix(),
    'img_extension': lambda s: s['img_suffix'].removeprefix('.'),
    'image_size_hw': _height_width('image_size'),
    'crop_size': lambda s: s['image_size'],
    'crop_size_hw': _height_width('crop_size'),
    'num_workers': _num_workers,
    'drop_last': _drop_last,
    'val_ann_file': _annotation_file('val'),
    'test_ann_file': _annotation_file('test'),
    # Anchors.
    'anchor_sizes': lambda s: anchors.fit_ssd_sizes(s.boxes, s['image_size']),
    'anchor_scale': _anchor_scale,
    'anchor_strides': lambda s: anchors.FPN_STRIDES,
    'anchor_ratios': lambda s: (1.0,),
    'ssd_min_sizes': lambda s: _ssd_sizes(s)[:-1],
    'ssd_max_sizes': lambda s: _ssd_sizes(s)[1:],
    'ssd_strides': _ssd_strides,
    # Schedule.
    'lr': _lr,
    'warmup_epochs': _warmup_epochs,
    'val_interval': lambda s: max(1, s['max_epochs'] // 20),
}
