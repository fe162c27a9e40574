"""Faults of annotation files: what their libraries would take as it is, or leave out unsaid."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .findings import Problem
from .samples import box_problems, label_problems

#: What mmdet reads of each entry of a COCO file.
_IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
_ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')
_NO_BOX = (0, 0, 0, 0)

Located = tuple[str, Problem]


def coco_entry_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Entries of a COCO file that are incomplete, there twice, or refer to what is not there.

    Args:
        content: Of the file, with ``images``, ``annotations`` and ``categories``.
    """
    for key, needed in (('images', _IMAGE_KEYS), ('annotations', _ANNOTATION_KEYS)):
        for index, entry in enumerate(content[key]):
            missing = [name for name in needed if name not in entry]
            if missing:
                yield Problem('malformed', f'has no `{missing[0]}` in {key}[{index}].')
            elif not _is_box(entry.get('bbox', _NO_BOX)):
                detail = f'has {entry["bbox"]!r} as the box of annotation {entry["id"]}.'
                yield Problem('malformed', f'{detail} A box is four numbers: x, y, width, height.')
        for number, count in Counter(entry.get('id') for entry in content[key]).items():
            if count > 1:
                yield Problem('duplicate_id', f'has the id {number} {count} times in {key}.')
    categories = {category['id'] for category in content['categories']}
    images = {image.get('id') for image in content['images']}
    for entry in content['annotations']:
        name, category, image = (entry.get(key) for key in ('id', 'category_id', 'image_id'))
        if category not in categories:
            known = listing(sorted(categories))
            detail = f'has annotation {name} of category {category}'
            yield Problem('orphan', f'{detail}, which its `categories` do not list ({known}).')
        if image not in images:
            detail = f'has annotation {name} of image {image}'
            yield Problem('orphan', f'{detail}, which its `images` do not list.')


def coco_object_problems(content: Mapping[str, Any], folder: str | Path) -> Iterator[Located]:
    """Faults of single objects in a COCO file whose entries are whole; mmdet leaves such objects
    out unsaid, but for coordinates that are no numbers.

    Args:
        content: Of the file.
        folder: Of its images.

    Yields:
        Path of an image, and a fault of an object in it.
    """
    images = {image['id']: image for image in content['images']}
    objects = [entry for entry in content['annotations'] if entry['image_id'] in images]
    names = Counter(image['file_name'] for image in content['images'])
    for name, count in names.items():
        if count > 1:
            path = os.path.join(folder, name)
            yield path, Problem('duplicate_entry', f'is listed {count} times.')
    if not objects:
        return
    boxes = np.array([entry['bbox'] for entry in objects], float)
    of = [images[entry['image_id']] for entry in objects]
    sizes = np.array([(image['width'], image['height']) for image in of], float)
    points = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    for index, problem in box_problems(points, sizes):
        yield _of_object(problem, objects[index], of[index], folder)
    for entry, image in zip(objects, of, strict=True):
        for problem in _outline_problems(entry.get('segmentation'), image):
            yield _of_object(problem, entry, image, folder)


def _of_object(
    problem: Problem, entry: Mapping[str, Any], image: Mapping[str, Any], folder: str | Path
) -> Located:
    detail = f'{problem.detail.removesuffix(".")} (annotation {entry["id"]}).'
    return os.path.join(folder, image['file_name']), problem._replace(detail=detail)


def _outline_problems(outline: Any, image: Mapping[str, Any]) -> Iterator[Problem]:
    """Faults of run lengths, as a dict, or of polygons, as lists of numbers."""
    if isinstance(outline, Mapping):
        size, listed = [image['height'], image['width']], outline.get('size')
        if listed != size:
            yield Problem('mask_size', f'has an outline for the size {listed}, not {size}.')
    elif not all(isinstance(polygon, Sequence) for polygon in outline or ()):
        yield Problem('malformed', 'has an outline that is neither polygons nor run lengths.')
    elif not math.isfinite(sum(map(sum, outline or ()))):
        yield Problem('outline_not_finite', 'has an outline with a coordinate that is not finite.')
    elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in outline or ()):
        yield Problem('outline_short', 'has an outline of fewer than three corners.')


def dota_line_problem(line: str, classes: Sequence[str]) -> Problem | None:
    """Whether a line of a DOTA label file is eight numbers, a class of the config and the
    difficulty."""
    fields = line.split()
    if len(fields) != 10 or not all(map(_is_number, [*fields[:8], fields[9]])):
        return Problem(
            'malformed',
            f'is {line!r}. A line of DOTA labels is `x1 y1 x2 y2 x3 y3 x4 y4 class difficulty`; '
            'headers go when images are split into patches.',
        )
    if fields[8] not in classes:
        return Problem(
            'label_range', f'is of class {fields[8]!r}. The config has {listing(classes)}.'
        )
    return None


def dota_problems(folder: str | Path, classes: Sequence[str]) -> Iterator[Located]:
    """Lines of DOTA label files that cannot be used, as ``FILE:LINE`` and a fault."""
    for path in sorted(Path(folder).glob('*.txt')):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            problem = dota_line_problem(line, classes)
            if problem is not None:
                yield f'{path}:{number}', problem


def label_list_problems(
    lines: Iterable[str], source: str, num_classes: int | None
) -> Iterator[Located]:
    """Faults of a classification annotation file, whose lines are a path and a label.

    Args:
        lines: Of the file.
        source: Path of the file.
        num_classes: None where neither data set nor model say.

    Yields:
        ``FILE:LINE``, and a fault.
    """
    labels: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        place = f'{source}:{number}'
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.lstrip('-').isdigit():
            yield (
                place,
                Problem('malformed', f'is {line!r}. A line is the path of an image and a label.'),
            )
            continue
        if num_classes is not None:
            for problem in label_problems(int(label), num_classes):
                yield place, problem
        if name not in labels:
            labels[name] = label
        elif labels[name] == label:
            yield place, Problem('duplicate_entry', f'lists {name} a second time.')
        else:
            yield (
                place,
                Problem(
                    'label_conflict', f'gives {name} the label {label}, and {labels[name]} before.'
                ),
            )


def listing(values: Sequence[Any], count: int = 12) -> str:
    """The first values, and how many more there are."""
    shown = ', '.join(map(repr, values[:count]))
    return shown + (f' and {len(values) - count} more' if len(values) > count else '')


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 4
        and all(isinstance(number, int | float) for number in value)
    )
