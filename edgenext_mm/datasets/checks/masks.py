"""Faults of segmentation masks, and of data sets of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..palette import IGNORED, ignored_value
from .findings import Problem, located
from .image_files import left_out_files
from .samples import mask_problems
from .source import Source, check_files

#: Number of masks to open, spread over the data set. Opening all of a large one takes minutes.
MAX_MASKS = 200


class MaskSource(Source):
    """A mask for each image, for mmseg's data sets."""

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields a problem if images are not used."""
        if self.lazy.ann_file:
            return iter(())
        folder, suffix = self.lazy.data_prefix['img_path'], self.lazy.img_suffix
        return left_out_files(folder, (suffix,), fold_case=False)

    def content_problems(self, single: bool = True) -> Iterator[Problem]:
        """Yields faults of up to :data:`MAX_MASKS` masks, singly and compared with each other."""
        listed = [info for info in self.lazy.load_data_list() if info.get('seg_map_path')]
        if self.num_classes is None or not listed:
            return
        ignored, shifted = ignored_value(self.config), self.lazy.reduce_zero_label
        chosen = np.linspace(0, len(listed) - 1, min(len(listed), MAX_MASKS)).round().astype(int)
        labels: set[int] = set()
        count = 0
        colours: dict[int, tuple[int, ...]] = {}
        for info in (listed[index] for index in chosen):
            path = info['seg_map_path']
            try:
                with Image.open(path) as mask, Image.open(info['img_path']) as image:
                    size, pixels = ImageOps.exif_transpose(image).size, np.asarray(mask)
                    palette = _palette_colours(mask, pixels)
            except (OSError, SyntaxError, ValueError) as error:
                if single:
                    detail = f'or its image cannot be read: {error}.'
                    yield Problem('unreadable', detail, path)
                continue
            highest = highest_value(info, self.num_classes, shifted)
            problems = list(mask_problems(pixels, size, highest, self.num_classes, ignored))
            if single:
                yield from located(path, problems)
            yield from located(path, _palette_problems(palette, colours))
            if not problems:
                labels.update(_trained_labels(np.unique(pixels), info, shifted))
                count += 1
        if count:
            place = f'The masks in {os.path.dirname(listed[0]["seg_map_path"])}'
            yield from located(place, _use_problems(labels, count, self.num_classes, ignored))

    def check_files(self) -> None:
        """Checks that images and masks exist."""
        data = self.lazy.load_data_list()
        check_files([Path(info['img_path']) for info in data], 'images')
        masks = [Path(info['seg_map_path']) for info in data if 'seg_map_path' in info]
        check_files(masks, 'masks')


def _palette_colours(mask: Image.Image, pixels: np.ndarray) -> dict[int, tuple[int, ...]]:
    """Returns the colours of the values in a palette image."""
    if mask.mode != 'P':
        return {}
    shown = np.asarray(mask.convert('RGB'))
    return {int(v): tuple(shown[pixels == v][0].tolist()) for v in np.unique(pixels)}


def _palette_problems(
    palette: dict[int, tuple[int, ...]], others: dict[int, tuple[int, ...]]
) -> Iterator[Problem]:
    """Yields a problem if a value has another colour in the masks before, and adds the palette to
    theirs."""
    differing = [v for v, colour in palette.items() if others.setdefault(v, colour) != colour]
    if differing:
        value = differing[0]
        yield Problem(
            'mask_palette',
            f'shows the value {value} in the colour {palette[value]}, other masks in '
            f'{others[value]}. Training reads the values: each must stand for one class in all '
            'masks.',
        )


def _trained_labels(
    values: np.ndarray, info: Mapping[str, Any], reduce_zero_label: bool
) -> list[int]:
    """Converts values of a mask to labels as mmseg's ``LoadAnnotations`` does."""
    labels: np.ndarray = values.astype(int)
    if reduce_zero_label:
        labels = np.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)
    mapping = info.get('label_map') or {}
    return [mapping.get(label, label) for label in labels.tolist()]


def highest_value(info: Mapping[str, Any], num_classes: int, reduce_zero_label: bool) -> int:
    """Returns the highest value in a mask that stands for a class, before labels are mapped."""
    return len(info.get('label_map') or range(num_classes)) - 1 + reduce_zero_label


def _use_problems(
    labels: set[int], count: int, num_classes: int, ignored: int
) -> Iterator[Problem]:
    """Yields a problem if all masks together show fewer than two classes."""
    classes = sorted(label for label in labels if 0 <= label < num_classes and label != ignored)
    if len(classes) > 1 or num_classes == 1:
        return
    only = f'only the class {classes[0]}' if classes else 'no class'
    if ignored in labels:
        yield Problem(
            'masks_ignored',
            f'show {only} in {count:,} masks: all other pixels have the value {ignored}, which the '
            'loss ignores. If it marks an object, write the number of its class instead, such as '
            '1 instead of 255.',
        )
    else:
        yield Problem('masks_one_class', f'show {only} in {count:,} masks.')
