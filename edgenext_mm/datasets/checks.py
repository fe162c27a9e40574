"""Whether annotations and images on disk fit together, and the classes that a config names.

What the libraries would pass over in silence, or meet in the middle of a training, is an error
here, before anything is built. These checks take seconds: they list folders and read annotation
files, but no image. :mod:`~edgenext_mm.datasets.inspection` reads everything.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError
from .annotations import (
    Located,
    coco_entry_problems,
    coco_object_problems,
    dota_problems,
    label_list_problems,
    listing,
)
from .samples import mask_problems

#: Masks to look into, spread over the data set; opening all of a large one takes minutes.
MAX_MASKS = 200

HOW_TO_NAME_CLASSES = 'Name the classes with `metainfo=dict(classes=(...))` in the data set.'


def check_coco(
    ann_file: str | Path, image_folder: str | Path, classes: Sequence[str], samples: bool = True
) -> None:
    """Checks a COCO annotation file.

    Args:
        ann_file: The JSON file.
        image_folder: Where its ``file_name``s are.
        classes: Of the config.
        samples: Whether missing images and impossible boxes count. Default: True.

    Raises:
        UserError: If the file cannot be read, classes or their order do not agree, entries are
            incomplete, or ids are given twice or refer to nothing; and see ``samples``.
    """
    content = read_coco(ann_file)
    names = [category['name'] for category in content['categories']]
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise UserError(
            f'{ann_file} has no category named {listing(unknown)}. It has {listing(names)}. '
            + HOW_TO_NAME_CLASSES
        )
    order = [name for name in names if name in classes]
    if order != list(classes):
        raise UserError(
            f'The config names the classes {listing(classes)}, {ann_file} has them in the order '
            f'{listing(order)}. mmdet numbers them as the file does; give them in its order.'
        )
    _refuse((str(ann_file), problem) for problem in coco_entry_problems(content))
    if samples:
        folder = Path(image_folder)
        paths = [folder / image['file_name'] for image in content['images']]
        _check_files(paths, 'images', ann_file)
        _refuse(coco_object_problems(content, folder))


def read_coco(ann_file: str | Path) -> dict[str, Any]:
    """What a COCO annotation file holds.

    Raises:
        UserError: If it cannot be read or is something else.
    """
    try:
        content = json.loads(Path(ann_file).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f'{ann_file} cannot be read as JSON: {error}') from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or key not in content:
            raise UserError(f'{ann_file} has no `{key}`, so it is no COCO annotation file.')
    return content


def check_dota(
    ann_folder: str | Path,
    image_folder: str | Path,
    suffix: str,
    classes: Sequence[str],
    samples: bool = True,
) -> None:
    """Checks a folder of DOTA label files.

    Args:
        ann_folder: Of the ``.txt`` files.
        image_folder: Of the images, named alike.
        suffix: Of the images' names, without a dot.
        classes: Of the config.
        samples: Whether missing images count. Default: True.

    Raises:
        UserError: If there is no label file, a line is not eight numbers, a known class and the
            difficulty, or an image is missing.
    """
    files = sorted(Path(ann_folder).glob('*.txt'))
    if not files:
        raise UserError(f'The folder {ann_folder} holds no label file (*.txt).')
    _refuse(dota_problems(ann_folder, classes))
    if samples:
        folder = Path(image_folder)
        _check_files([folder / f'{path.stem}.{suffix}' for path in files], 'images', ann_folder)


def check_label_list(
    lines: Sequence[str],
    ann_file: str | Path,
    image_folder: str | Path,
    num_classes: int | None,
    samples: bool = True,
) -> None:
    """Checks a classification annotation file: lines of a path and a label.

    Args:
        lines: Of the file.
        ann_file: Its path.
        image_folder: Where its paths begin.
        num_classes: Of the config, or None where it does not say.
        samples: Whether missing images count. Default: True.

    Raises:
        UserError: If a line is something else, a label is none of a class, or an image has two.
    """
    _refuse(label_list_problems(lines, str(ann_file), num_classes))
    if samples:
        folder = Path(image_folder)
        _check_files([folder / line.rsplit(' ', 1)[0] for line in lines], 'images', ann_file)


def check_masks(
    data_list: Sequence[Mapping[str, Any]], num_classes: int, reduce_zero_label: bool = False
) -> None:
    """Checks images and masks of a segmentation data set.

    Args:
        data_list: What mmseg's data set lists: dicts with ``img_path``, ``seg_map_path`` and
            ``label_map``.
        num_classes: Of the config.
        reduce_zero_label: Whether value 0 of a mask counts for no class. Default: False.

    Raises:
        UserError: If a file is missing or a mask holds something other than values of classes.
    """
    _check_files([Path(info['img_path']) for info in data_list], 'images')
    masks = [Path(info['seg_map_path']) for info in data_list if 'seg_map_path' in info]
    _check_files(masks, 'masks')
    chosen = np.linspace(0, len(masks) - 1, min(len(masks), MAX_MASKS)).round().astype(int)
    for index in chosen:
        info = data_list[index]
        try:
            with Image.open(info['seg_map_path']) as mask, Image.open(info['img_path']) as image:
                size, values = ImageOps.exif_transpose(image).size, np.asarray(mask)
        except (OSError, SyntaxError) as error:
            raise UserError(
                f'{info["seg_map_path"]} or its image cannot be read: {error}. '
                'tools/check_dataset.py finds all such files.'
            ) from error
        highest = highest_value(info, num_classes, reduce_zero_label)
        problems = mask_problems(values, size, highest, num_classes)
        _refuse((info['seg_map_path'], problem) for problem in problems)


def highest_value(info: Mapping[str, Any], num_classes: int, reduce_zero_label: bool) -> int:
    """The highest value of a mask that stands for a class, before labels are mapped."""
    return len(info.get('label_map') or range(num_classes)) - 1 + reduce_zero_label


def check_image_folders(root: str | Path, classes: Sequence[str] | None) -> list[str]:
    """Checks a folder of one folder of images per class.

    Args:
        root: The folder.
        classes: Of the config, or None where the folders name them.

    Returns:
        The names of the classes.

    Raises:
        UserError: If there are no folders, or not as many as classes.
    """
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not folders:
        raise UserError(f'{root} holds no folders. It takes one folder of images for each class.')
    if classes is not None and len(classes) != len(folders):
        raise UserError(
            f'{root} holds {len(folders)} folders ({listing(folders)}), but the data set has '
            f'{len(classes)} classes ({listing(classes)}). It takes one folder for each class.'
        )
    return list(classes or folders)


def _refuse(problems: Iterable[Located]) -> None:
    for place, problem in problems:
        if problem.is_error:
            of_classes = problem.kind in ('label_range', 'mask_value')
            hint = f' {HOW_TO_NAME_CLASSES}' if of_classes else ''
            raise UserError(f'{place} {problem.detail}{hint}')


def _check_files(paths: Iterable[Path], kind: str, source: object = None) -> None:
    """Looks into each folder once: asking for every file takes minutes on network storage."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    if not folders:
        raise UserError(f'{source or "The data set"} names no {kind}.')
    for folder, wanted in folders.items():
        present = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        missing = [path for path in wanted if path.name not in present]
        if missing:
            origin = f' named in {source}' if source else ''
            raise UserError(
                f'{len(missing)} of {len(wanted)} {kind}{origin} are not there; the first: '
                f'{missing[0]}.'
            )
