"""Whether annotations and images on disk fit together, and the classes that a config names.

What the libraries would pass over in silence, or meet in the middle of a training, is an error
here, before anything is built. These checks take seconds: they list folders and read annotation
files, but no image. :mod:`~edgenext_mm.datasets.checks.sample_inspection` reads everything.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from PIL import Image, ImageOps

from ...errors import UserError
from ..palette import IGNORED
from .annotations import (
    HOW_TO_NAME_CLASSES,
    coco_class_problems,
    coco_entry_problems,
    coco_object_problems,
    dota_problems,
)
from .findings import Located, Problem
from .samples import mask_problems
from .usage import coco_use_problems, dota_use_problems, mask_use_problems

#: Masks to look into, spread over the data set; opening all of a large one takes minutes.
MAX_MASKS = 200


def coco_problems(
    ann_file: str | Path,
    image_folder: str | Path,
    classes: Sequence[str],
    objects: bool = True,
    *,
    filter_cfg: Mapping[str, Any] | None = None,
    training: bool = True,
    evaluated: bool = False,
    outlines: bool = False,
    sorted_by_id: bool = False,
) -> Iterator[Located]:
    """Faults of a COCO annotation file.

    Args:
        ann_file: The JSON file.
        image_folder: Where its ``file_name``s are.
        classes: Of the config.
        objects: Whether faults of single objects count. Default: True.
        filter_cfg: Of the data set. Default: None.
        training: Whether the data set is for training. Default: True.
        evaluated: Whether pycocotools evaluates with the file. Default: False.
        outlines: Whether each object needs a ``segmentation``. Default: False.
        sorted_by_id: Whether the data set sorts the categories by id. Default: False.

    Raises:
        UserError: If the file cannot be read or is something else.
    """
    content = read_coco(ann_file)
    entries = list(coco_entry_problems(content, evaluated, outlines))
    yield from ((str(ann_file), problem) for problem in entries)
    if any(problem.kind == 'malformed' for problem in entries):
        return
    of_classes = list(coco_class_problems(content, classes, sorted_by_id))
    use = [] if of_classes else coco_use_problems(content, classes, filter_cfg, training)
    yield from ((str(ann_file), problem) for problem in (*of_classes, *use))
    if objects:
        yield from coco_object_problems(content, image_folder)


def check_coco_images(ann_file: str | Path, image_folder: str | Path) -> None:
    """Makes sure that the images of a COCO file are there.

    Raises:
        UserError: If one is not.
    """
    folder = Path(image_folder)
    paths = [folder / image['file_name'] for image in read_coco(ann_file)['images']]
    _check_files(paths, 'images', ann_file)


def read_coco(ann_file: str | Path) -> dict[str, Any]:
    """What a COCO annotation file holds.

    Raises:
        UserError: If it cannot be read or is something else.
    """
    try:
        content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{ann_file} cannot be read as JSON: {error}') from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or key not in content:
            raise UserError(f'{ann_file} has no `{key}`, so it is no COCO annotation file.')
        if not isinstance(content[key], list):
            kind = 'null' if content[key] is None else type(content[key]).__name__
            raise UserError(f'{ann_file} has {kind} as `{key}`, where COCO files have a list.')
    return content


def dota_folder_problems(
    ann_folder: str | Path,
    image_folder: str | Path,
    suffix: str,
    classes: Sequence[str],
    diff_thr: int = 100,
) -> Iterator[Located]:
    """Faults of a folder of DOTA label files.

    Args:
        ann_folder: Of the ``.txt`` files.
        image_folder: Of the images, named alike.
        suffix: Of the images' names, without a dot.
        classes: Of the config.
        diff_thr: Difficulty above which objects are ignored. Default: 100.

    Raises:
        UserError: If there is no label file.
    """
    if not any(Path(ann_folder).glob('[!.]*.txt')):
        raise UserError(f'The folder {ann_folder} holds no label file (*.txt).')
    problems = list(dota_problems(ann_folder, classes))
    yield from problems
    if not problems:
        use = dota_use_problems(ann_folder, image_folder, suffix, diff_thr)
        yield from ((str(ann_folder), problem) for problem in use)


def check_dota_images(ann_folder: str | Path, image_folder: str | Path, suffix: str) -> None:
    """Makes sure that the images of DOTA label files are there.

    Raises:
        UserError: If one is not.
    """
    folder, files = Path(image_folder), sorted(Path(ann_folder).glob('[!.]*.txt'))
    _check_files([folder / f'{path.stem}.{suffix}' for path in files], 'images', ann_folder)


def read_lines(ann_file: str | Path) -> list[str]:
    """The lines of a text file, as mmengine reads it.

    Raises:
        UserError: If it is not UTF-8 text.
    """
    try:
        return list_from_file(str(ann_file))
    except UnicodeDecodeError as error:
        raise UserError(
            f'{ann_file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.'
        ) from error


def check_listed_images(ann_file: str | Path, image_folder: str | Path) -> None:
    """Makes sure that the images of a classification annotation file are there.

    Raises:
        UserError: If one is not.
    """
    folder = Path(image_folder)
    paths = [folder / line.rsplit(' ', 1)[0] for line in read_lines(ann_file)]
    _check_files(paths, 'images', ann_file)


def check_mask_files(data_list: Sequence[Mapping[str, Any]]) -> None:
    """Makes sure that images and masks are there.

    Raises:
        UserError: If one is not.
    """
    _check_files([Path(info['img_path']) for info in data_list], 'images')
    masks = [Path(info['seg_map_path']) for info in data_list if 'seg_map_path' in info]
    _check_files(masks, 'masks')


def masks_problems(
    data_list: Sequence[Mapping[str, Any]],
    num_classes: int,
    reduce_zero_label: bool = False,
    ignored: int = IGNORED,
    single: bool = True,
) -> Iterator[Located]:
    """Faults of some masks, spread over the data set, and of all those as a whole.

    Args:
        data_list: What mmseg's data set lists: dicts with ``img_path``, ``seg_map_path`` and
            ``label_map``.
        num_classes: Of the config.
        reduce_zero_label: Whether value 0 of a mask counts for no class. Default: False.
        ignored: Value of pixels that do not count. Default: 255.
        single: Whether faults of single masks count. Default: True.
    """
    listed = [info for info in data_list if info.get('seg_map_path')]
    chosen = np.linspace(0, len(listed) - 1, min(len(listed), MAX_MASKS)).round().astype(int)
    values: list[np.ndarray] = []
    colours: dict[int, tuple[int, ...]] = {}
    for info in (listed[index] for index in chosen):
        path = info['seg_map_path']
        try:
            with Image.open(path) as mask, Image.open(info['img_path']) as image:
                size, pixels = ImageOps.exif_transpose(image).size, np.asarray(mask)
                shown = _colours(mask, pixels)
        except (OSError, SyntaxError, ValueError) as error:
            if single:
                detail = f'or its image cannot be read: {error}. tools/check_dataset.py finds all.'
                yield path, Problem('unreadable', detail)
            continue
        highest = highest_value(info, num_classes, reduce_zero_label)
        problems = list(mask_problems(pixels, size, highest, num_classes, ignored))
        if single:
            yield from ((path, problem) for problem in problems)
        other = [v for v, colour in shown.items() if colours.setdefault(v, colour) != colour]
        if other:
            yield (
                path,
                Problem(
                    'mask_palette',
                    f'shows the value {other[0]} in the colour {shown[other[0]]}, other masks in '
                    f'{colours[other[0]]}. Training reads the values: each must stand for one '
                    'class in all masks.',
                ),
            )
        if not problems:
            values.append(trained_values(np.unique(pixels), info, reduce_zero_label))
    if values:
        place = f'The masks in {os.path.dirname(listed[0]["seg_map_path"])}'
        for problem in mask_use_problems(values, num_classes, ignored):
            yield place, problem


def _colours(mask: Image.Image, pixels: np.ndarray) -> dict[int, tuple[int, ...]]:
    """The colours of the values of a palette image."""
    if mask.mode != 'P':
        return {}
    palette = mask.convert('RGB')
    places = [np.argwhere(pixels == value)[0] for value in np.unique(pixels)]
    return {int(pixels[y, x]): palette.getpixel((int(x), int(y))) for y, x in places}


def trained_values(
    values: np.ndarray, info: Mapping[str, Any], reduce_zero_label: bool
) -> np.ndarray:
    """The labels that mmseg's ``LoadAnnotations`` makes of values of a mask."""
    labels: np.ndarray = values.astype(int)
    if reduce_zero_label:
        labels = np.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)
    mapping = info.get('label_map') or {}
    return np.array([mapping.get(label, label) for label in labels.tolist()], int)


def highest_value(info: Mapping[str, Any], num_classes: int, reduce_zero_label: bool) -> int:
    """The highest value of a mask that stands for a class, before labels are mapped."""
    return len(info.get('label_map') or range(num_classes)) - 1 + reduce_zero_label


def refuse(problems: Iterable[Located]) -> None:
    """Makes the first error among faults an exception, and logs the warnings, each kind once.

    Raises:
        UserError: If there is an error.
    """
    warnings: dict[str, list[str]] = {}
    for place, problem in problems:
        if problem.is_error:
            of_classes = problem.kind in ('label_range', 'mask_value')
            hint = f' {HOW_TO_NAME_CLASSES}' if of_classes else ''
            raise UserError(f'{place} {problem.detail}{hint}')
        warnings.setdefault(problem.kind, []).append(f'{place} {problem.detail}')
    for told in warnings.values():
        more = f' (and {len(told) - 1:,} more; tools/check_dataset.py lists them)'
        print_log(told[0] + more * (len(told) > 1), 'current', logging.WARNING)


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
