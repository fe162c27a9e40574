"""Whether annotations and images on disk fit together, and the classes that a config names.

What the libraries would pass over in silence, or meet in the middle of a training, is an error
here, before anything is built.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .palette import IGNORED

#: Masks to look into, spread over the data set; opening all of a large one takes minutes.
MAX_MASKS = 200

HOW_TO_NAME_CLASSES = 'Name the classes with `metainfo=dict(classes=(...))` in the data set.'


def check_coco(ann_file: str | Path, image_folder: str | Path, classes: Sequence[str]) -> None:
    """Checks a COCO annotation file.

    Args:
        ann_file: The JSON file.
        image_folder: Where its ``file_name``s are.
        classes: Of the config.

    Raises:
        UserError: If the file cannot be read, classes or their order do not agree, an annotation
            is of a category that the file does not list, or an image is missing.
    """
    content = _read_json(ann_file)
    for key in ('images', 'annotations', 'categories'):
        if key not in content:
            raise UserError(f'{ann_file} has no `{key}`, so it is no COCO annotation file.')
    names = [category['name'] for category in content['categories']]
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise UserError(
            f'{ann_file} has no category named {_list(unknown)}. It has {_list(names)}. '
            + HOW_TO_NAME_CLASSES
        )
    order = [name for name in names if name in classes]
    if order != list(classes):
        raise UserError(
            f'The config names the classes {_list(classes)}, {ann_file} has them in the order '
            f'{_list(order)}. mmdet numbers them as the file does; give them in its order.'
        )
    ids = {category['id'] for category in content['categories']}
    for annotation in content['annotations']:
        if annotation['category_id'] not in ids:
            raise UserError(
                f'Annotation {annotation.get("id")} in {ann_file} is of category '
                f'{annotation["category_id"]}, which its `categories` do not list '
                f'({_list(sorted(ids))}).'
            )
    folder = Path(image_folder)
    _check_files([folder / image['file_name'] for image in content['images']], 'images', ann_file)


def check_dota(
    ann_folder: str | Path, image_folder: str | Path, suffix: str, classes: Sequence[str]
) -> None:
    """Checks a folder of DOTA label files.

    Args:
        ann_folder: Of the ``.txt`` files.
        image_folder: Of the images, named alike.
        suffix: Of the images' names, without a dot.
        classes: Of the config.

    Raises:
        UserError: If there is no label file, a line is not eight numbers, a known class and the
            difficulty, or an image is missing.
    """
    files = sorted(Path(ann_folder).glob('*.txt'))
    if not files:
        raise UserError(f'The folder {ann_folder} holds no label file (*.txt).')
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            fields = line.split()
            if len(fields) != 10 or not all(map(_is_number, [*fields[:8], fields[9]])):
                raise UserError(
                    f'{path}:{number} is {line!r}. A line of DOTA labels is `x1 y1 x2 y2 x3 y3 x4 '
                    'y4 class difficulty`; headers go when images are split into patches.'
                )
            if fields[8] not in classes:
                raise UserError(
                    f'{path}:{number} is of class {fields[8]!r}. The config has '
                    f'{_list(classes)}. {HOW_TO_NAME_CLASSES}'
                )
    folder = Path(image_folder)
    _check_files([folder / f'{path.stem}.{suffix}' for path in files], 'images', ann_folder)


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
        with Image.open(info['seg_map_path']) as mask, Image.open(info['img_path']) as image:
            if mask.size != image.size:
                raise UserError(
                    f'{info["seg_map_path"]} is of {mask.size[0]}x{mask.size[1]} pixels, its image '
                    f'of {image.size[0]}x{image.size[1]}.'
                )
            values = np.asarray(mask)
        if values.ndim != 2:
            raise UserError(
                f'{info["seg_map_path"]} is a colour image; a mask holds the number of a class in '
                'each pixel, as a grey or palette image.'
            )
        highest = len(info.get('label_map') or range(num_classes)) - 1 + reduce_zero_label
        wrong = [v for v in np.unique(values).tolist() if v > highest and v != IGNORED]
        if wrong:
            raise UserError(
                f'{info["seg_map_path"]} holds the value {wrong[0]}. With {num_classes} classes, '
                f'values are 0 to {highest}, and {IGNORED} for pixels that do not count. '
                + HOW_TO_NAME_CLASSES
            )


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
            f'{root} holds {len(folders)} folders ({_list(folders)}), but the data set has '
            f'{len(classes)} classes ({_list(classes)}). It takes one folder for each class.'
        )
    return list(classes or folders)


def _read_json(path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f'{path} cannot be read as JSON: {error}') from error
    return content if isinstance(content, dict) else {}


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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _list(values: Sequence[Any], count: int = 12) -> str:
    shown = ', '.join(map(repr, values[:count]))
    return shown + (f' and {len(values) - count} more' if len(values) > count else '')
