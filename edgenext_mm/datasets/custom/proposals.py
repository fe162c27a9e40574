"""Proposes settings for custom data, and writes the config with the reasons."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError
from . import anchors
from .layout import CustomData


class Recipe(NamedTuple):
    """A config for custom data.

    Args:
        config: Path of the config, without its ending.
        title: Name of the model.
        min_object: Size that an object should have in the input, in pixels: two cells of the first
            map on which the detector predicts. 0 without objects.
        max_batch: Largest batch size that is proposed.
        scale: Default scale of the anchors of a detector with an FPN, their strides and ratios, if
            the scale is fitted to the boxes.
        ssd_anchors: Whether it is a detector with SSD's anchors.
    """

    config: str
    title: str
    min_object: int = 0
    max_batch: int = 16
    scale: tuple[float, tuple[int, ...], tuple[float, ...]] | None = None
    ssd_anchors: bool = False

    @property
    def prefix(self) -> str:
        """Beginning of the names of configs that inherit it."""
        return self.config.rpartition('/')[2].removesuffix('_custom')


#: Recipes by task; the first one of a task is the default.
RECIPES: dict[str, dict[str, Recipe]] = {
    'classification': {
        'edgenext': Recipe('classification/edgenext_custom', 'EdgeNeXt', max_batch=64)
    },
    'detection': {
        'ssdlite': Recipe(
            'detection/ssdlite_edgenext_custom', 'SSDLite with EdgeNeXt', 32, ssd_anchors=True
        ),
        'gfl': Recipe('detection/gfl_edgenext_custom', 'GFL with EdgeNeXt', 16),
    },
    'instance-segmentation': {
        'mask-rcnn': Recipe(
            'detection/mask-rcnn_edgenext_custom',
            'Mask R-CNN with EdgeNeXt',
            16,
            max_batch=8,
            scale=(8, (4, 8, 16, 32, 64), (0.5, 1.0, 2.0)),
        )
    },
    'segmentation': {
        'segformer': Recipe(
            'segmentation/segformer_edgenext_custom', "EdgeNeXt with SegFormer's head"
        ),
        'deeplabv3': Recipe('segmentation/deeplabv3_edgenext_custom', 'DeepLabv3 with EdgeNeXt'),
    },
    'rotated-detection': {
        'rotated-rtmdet': Recipe(
            'rotated_detection/rotated-rtmdet-le90_edgenext_custom',
            'Rotated RTMDet with EdgeNeXt',
            16,
            max_batch=8,
        ),
        'rotated-gfl': Recipe(
            'rotated_detection/rotated-gfl-le135_edgenext_custom',
            'Rotated GFL with EdgeNeXt',
            16,
            max_batch=8,
        ),
    },
}

#: Inputs are multiples of this many pixels, the largest stride of the backbone.
_STEP = 32
#: Limits of the longer side of the input.
_SIDES = {'classification': (64, 256), 'segmentation': (128, 512)}
_DETECTION_SIDES = (320, 1024)
#: Images that a training sees: from pretrained and from random weights.
_IMAGES_SEEN = {'classification': (60_000, 150_000)}
_DENSE_IMAGES_SEEN = (20_000, 60_000)
_EPOCHS = (10, 300)
#: Steps per epoch below which smaller batches are proposed.
_STEPS_PER_EPOCH = {'classification': 40}
_DENSE_STEPS_PER_EPOCH = 20


@dataclass
class Proposal:
    """Settings for custom data, with reasons.

    Args:
        recipe: The recipe.
        name: Name of the config without its ending.
        settings: Values by name.
        reasons: Reasons by name of the setting.
        data: Description of the data.
    """

    recipe: Recipe
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    data: str = ''

    def set(self, name: str, value: Any, reason: str) -> None:
        """Adds a setting."""
        self.settings[name], self.reasons[name] = value, reason

    def text(self) -> str:
        """Returns the text of the config."""
        lines = [
            f'# {self.recipe.title} on {self.data}. All settings: docs/custom_data.md.',
            f"_base_ = 'edgenext_mm::{self.recipe.config}.py'",
        ]
        for name, value in self.settings.items():
            reason = self.reasons.get(name)
            lines.append(f'{name} = {value!r}' + (f'  # {reason}' if reason else ''))
        return '\n'.join(lines) + '\n'


def check_recipe(task: str, recipe: str | None) -> Recipe:
    """Returns a recipe.

    Args:
        task: The task.
        recipe: A name in :data:`RECIPES`, or None for the first one of the task.

    Raises:
        UserError: If the recipe is not for the task.
    """
    choices = RECIPES[task]
    name = recipe or next(iter(choices))
    if name not in choices:
        raise UserError(f'The recipe for {task} must be one of {", ".join(choices)}, got {name!r}.')
    return choices[name]


def propose(
    data: CustomData,
    data_root: str | os.PathLike[str],
    recipe: str | None = None,
    arch: str = 'xxsmall',
    pretrained: bool = True,
) -> Proposal:
    """Proposes a config.

    Args:
        data: The data.
        data_root: Their folder, as the config names it.
        recipe: A name in :data:`RECIPES`. Default: the first one of the task.
        arch: Variant of EdgeNeXt. Default: ``xxsmall``.
        pretrained: Whether training starts from ImageNet-1K weights. Default: True.

    Raises:
        UserError: If the recipe is not for the task, or no image can be opened.
    """
    chosen = check_recipe(data.task, recipe)
    folder = re.sub(r'\W+', '-', os.path.basename(os.path.normpath(data_root))) or 'custom'
    proposal = Proposal(chosen, f'{chosen.prefix}-{arch}_{folder}')
    num_images = data.num_images()
    classes = len(data.classes())
    proposal.data = (
        f'{num_images:,} training images with {classes:,} class{"es" if classes > 1 else ""}'
    )
    proposal.settings = dict(data_root=str(data_root), arch=arch)
    proposal.set(
        'pretrained',
        pretrained,
        'ImageNet-1K weights; with False, training needs more epochs and learns less'
        if pretrained
        else 'from random weights; True starts from ImageNet-1K weights, which is better',
    )
    boxes = data.boxes() if chosen.min_object else np.empty((0, 7))
    _propose_image_size(proposal, data, boxes)
    _propose_schedule(proposal, data.task, num_images, pretrained)
    if len(boxes):
        _propose_anchors(proposal, boxes)
    return proposal


def _propose_image_size(proposal: Proposal, data: CustomData, boxes: np.ndarray) -> None:
    sizes = data.image_sizes()
    if not len(sizes):
        raise UserError(f'None of the images in {data.root}/train can be opened.')
    width, height = np.median(sizes, axis=0)
    if data.task == 'classification':
        short = min(width, height)
        side = _round(min(max(short, 64), 256))
        proposal.set('image_size', side, f'the median short side is {short:.0f} pixels')
        return
    low, high = _SIDES.get(data.task, _DETECTION_SIDES)
    side, reason = max(width, height), f'the median image has {width:.0f}x{height:.0f} pixels'
    if len(boxes):
        # Shrinks images as far as the objects of the class with the smallest ones stay visible.
        objects, labels = np.sqrt(boxes[:, 2] * boxes[:, 3]), boxes[:, 6]
        small = min(float(np.median(objects[labels == label])) for label in np.unique(labels))
        reason += f', the median object of the smallest class {small:.0f}'
        side = min(side * proposal.recipe.min_object / small, 1.5 * side)
    scale = min(max(side, low), high) / max(width, height)
    size = (_round(width * scale), _round(height * scale))
    proposal.set('image_size', size, f'width, height: {reason}')


def _round(side: float) -> int:
    return max(1, round(side / _STEP)) * _STEP


def _propose_schedule(proposal: Proposal, task: str, num_images: int, pretrained: bool) -> None:
    least = _STEPS_PER_EPOCH.get(task, _DENSE_STEPS_PER_EPOCH)
    batch_size = 2 ** int(math.log2(max(num_images / least, 4)))
    batch_size = min(batch_size, proposal.recipe.max_batch)
    # A last batch of one image is dropped.
    steps = math.ceil((num_images - 1) / batch_size) if num_images > 1 else 1
    proposal.set(
        'batch_size', batch_size, f'{steps:,} steps per epoch; the learning rate follows it'
    )
    wanted = _IMAGES_SEEN.get(task, _DENSE_IMAGES_SEEN)[0 if pretrained else 1]
    epochs = round(min(max(wanted / num_images, _EPOCHS[0]), _EPOCHS[1]))
    proposal.set(
        'max_epochs', epochs, f'{epochs * num_images:,} images seen; the schedule follows it'
    )


def _propose_anchors(proposal: Proposal, boxes: np.ndarray) -> None:
    recipe, image_size = proposal.recipe, proposal.settings['image_size']
    if recipe.ssd_anchors:
        scaled = anchors.resized(boxes, image_size, keep_ratio=False)
        sizes = anchors.fit_ssd_sizes(scaled, image_size)
        ious = [anchors.ssd_ious(scaled, s, image_size) for s in (sizes, anchors.SSD_SIZES)]
        proposal.set('anchor_sizes', sizes, _improvement(scaled, ious))
    if recipe.scale is None:
        return
    scaled = anchors.resized(boxes, image_size, keep_ratio=True)
    default, strides, ratios = recipe.scale
    scale = anchors.fit_fpn_scale(scaled, default, strides, ratios)
    ious = [anchors.fpn_ious(scaled, s, strides, ratios) for s in (scale, default)]
    proposal.set('anchor_scale', scale, _improvement(scaled, ious))


def _improvement(boxes: np.ndarray, ious: Sequence[np.ndarray]) -> str:
    after, before = (anchors.mean_iou(found, boxes[:, 4]) for found in ious)
    return f'fitted: mean IoU of boxes and best anchors {after:.2f}, before {before:.2f}'
