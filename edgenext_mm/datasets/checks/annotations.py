"""Faults of annotation files: what their libraries would take as it is, or leave out unsaid."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .classes import slip
from .findings import Located, Problem, listing
from .samples import box_problems, label_problems

HOW_TO_NAME_CLASSES = 'Name the classes with `metainfo=dict(classes=(...))` in the data set.'

#: What mmdet and pycocotools read of each entry of a COCO file: a test, and what passes it.
_ID = (lambda value: _is_whole(value), 'a whole number')
_KEY = (lambda value: _is_whole(value) or isinstance(value, str), 'a whole number or a text')
_TEXT = (lambda value: isinstance(value, str) and bool(value), 'a text')
_SIDE = (lambda value: _is_real(value) and value > 0, 'a positive number')
_NUMBER = (lambda value: _is_real(value), 'a number')
_BOX = (lambda value: _is_box(value), 'four numbers: x, y, width, height')
_FLAG = (lambda value: isinstance(value, int | float) and value in (0, 1), '0 or 1')
_FIELDS = {
    'images': dict(id=_KEY, file_name=_TEXT, height=_SIDE, width=_SIDE),
    'categories': dict(id=_KEY, name=_TEXT),
    'annotations': dict(id=_ID, image_id=_KEY, category_id=_KEY, bbox=_BOX, area=_NUMBER),
}


def coco_entry_problems(
    content: Mapping[str, Any], evaluated: bool = False, outlines: bool = False
) -> Iterator[Problem]:
    """Entries of a COCO file that are incomplete, there twice, or refer to what is not there.

    Args:
        content: Of the file, with ``images``, ``annotations`` and ``categories``.
        evaluated: Whether pycocotools evaluates with the file, which takes ``iscrowd``.
            Default: False.
        outlines: Whether each object needs a ``segmentation``. Default: False.
    """
    malformed = list(_malformed_entries(content, evaluated, outlines))
    if malformed:
        yield from malformed
        return
    for key in ('images', 'categories', 'annotations'):
        for number, count in Counter(entry['id'] for entry in content[key]).items():
            if count > 1:
                yield Problem('duplicate_id', f'has the id {number} {count} times in {key}.')
    categories = {category['id'] for category in content['categories']}
    images = {image['id'] for image in content['images']}
    for entry in content['annotations']:
        name, category, image = (entry[key] for key in ('id', 'category_id', 'image_id'))
        if category not in categories:
            known = listing(sorted(categories, key=str))
            detail = f'has annotation {name} of category {category!r}'
            yield Problem('orphan', f'{detail}, which its `categories` do not list ({known}).')
        if image not in images:
            detail = f'has annotation {name} of image {image!r}'
            yield Problem('orphan', f'{detail}, which its `images` do not list.')
    if evaluated and any(entry['id'] == 0 for entry in content['annotations']):
        yield Problem(
            'annotation_zero',
            'has an annotation with the id 0, whose detections pycocotools counts as wrong. Number '
            'annotations from 1.',
        )


def _malformed_entries(
    content: Mapping[str, Any], evaluated: bool, outlines: bool
) -> Iterator[Problem]:
    """Fields that are missing or of a wrong type, each once, with a count."""
    for key, fields in _FIELDS.items():
        faults: dict[tuple[str, bool], list[int]] = {}
        for index, entry in enumerate(content[key]):
            if not isinstance(entry, Mapping):
                faults.setdefault(('', False), []).append(index)
                continue
            needed = {**fields, **(_more_fields(entry, evaluated) if key == 'annotations' else {})}
            for name, (passes, _) in needed.items():
                if name not in entry or not passes(entry[name]):
                    faults.setdefault((name, name in entry), []).append(index)
            if key == 'annotations' and outlines and not entry.get('segmentation'):
                faults.setdefault(('segmentation', False), []).append(index)
        for (name, is_there), indices in faults.items():
            place = f'{key}[{indices[0]}]'
            more = f' ({len(indices):,} of {len(content[key]):,} {key})' if indices[1:] else ''
            if not name:
                detail = f'has {content[key][indices[0]]!r} as {place}{more}. It takes a dict.'
            elif not is_there:
                detail = f'has no `{name}` in {place}{more}.{_WHY_NEEDED.get(name, "")}'
            else:
                value, wanted = content[key][indices[0]][name], {**fields, 'iscrowd': _FLAG}[name]
                detail = f'has {value!r} as `{name}` of {place}{more}. It takes {wanted[1]}.'
            yield Problem('malformed', detail)


_WHY_NEEDED = {
    'iscrowd': ' pycocotools needs it at validation: 1 for a crowd, otherwise 0.',
    'segmentation': ' The config loads or evaluates masks, so each object needs an outline.',
}


def _more_fields(entry: Mapping[str, Any], evaluated: bool) -> dict[str, Any]:
    needed = evaluated or entry.get('iscrowd') is not None
    return dict(iscrowd=_FLAG) if needed else {}


def coco_class_problems(
    content: Mapping[str, Any], classes: Sequence[str], sorted_by_id: bool = False
) -> Iterator[Problem]:
    """Categories of a COCO file that do not agree with the classes of a config.

    Args:
        content: Of the file, whose categories have names.
        classes: Of the config, in order.
        sorted_by_id: Whether the data set sorts the categories; others keep the file's order.
            Default: False.
    """
    categories = content['categories']
    if sorted_by_id:
        categories = sorted(categories, key=lambda category: category['id'])
    names = [category['name'] for category in categories]
    unknown = [name for name in classes if name not in names]
    twice = [name for name, count in Counter(names).items() if count > 1 and name in classes]
    order = [name for name in names if name in classes]
    if unknown:
        yield Problem(
            'classes',
            f'has no category named {listing(unknown)}. It has {listing(names)}. '
            + (slip(classes, names) or HOW_TO_NAME_CLASSES),
        )
    elif twice:
        yield Problem(
            'classes',
            f'has more than one category named {twice[0]!r}, which mmdet numbers as different '
            'classes.',
        )
    elif order != list(classes):
        yield Problem(
            'classes',
            f'has the classes {listing(classes)} of the config in the order {listing(order)}. '
            'mmdet numbers them as the file does, so that results would have wrong names. Give '
            'the classes of all data sets in that order; where files differ, sort the '
            '`categories` of one.',
        )


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
        elif not isinstance(outline.get('counts'), list | str):
            yield Problem('malformed', 'has run lengths without `counts`.')
    elif not _are_polygons(outline or []):
        yield Problem('malformed', 'has an outline that is neither polygons nor run lengths.')
    elif not math.isfinite(sum(map(sum, outline or ()))):
        yield Problem('outline_not_finite', 'has an outline with a coordinate that is not finite.')
    elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in outline or ()):
        yield Problem('outline_short', 'has an outline of fewer than three corners.')


def dota_line_problem(line: str, classes: Sequence[str]) -> Problem | None:
    """Whether a line of a DOTA label file is eight numbers, a class of the config and the
    difficulty."""
    fields = line.split()
    numbers = len(fields) == 10 and all(map(_is_number, fields[:8]))
    if not numbers or not fields[9].lstrip('-').isdigit():
        return Problem(
            'malformed',
            f'is {line!r}. A line of DOTA labels is `x1 y1 x2 y2 x3 y3 x4 y4 class difficulty`; '
            'headers go when images are split into patches. Remove empty lines and byte order '
            'marks; the difficulty is a whole number.',
        )
    if fields[8] not in classes:
        return Problem(
            'label_range',
            f'is of class {fields[8]!r}. The config has {listing(classes)}. '
            f'{slip([fields[8]], classes) or slip(classes, [fields[8]])}'.rstrip(),
        )
    return None


def dota_lines(path: Path) -> list[str]:
    """The lines of a DOTA label file, as mmrotate reads it.

    Raises:
        UnicodeDecodeError: If it is not UTF-8 text.
    """
    with path.open(encoding='utf-8') as file:
        return [line.rstrip('\n') for line in file]


def dota_problems(folder: str | Path, classes: Sequence[str]) -> Iterator[Located]:
    """Lines of DOTA label files that cannot be used, as ``FILE:LINE`` and a fault."""
    for path in sorted(Path(folder).glob('[!.]*.txt')):
        try:
            lines = dota_lines(path)
        except UnicodeDecodeError as error:
            detail = f'is not UTF-8 text (byte {error.start}). Save it as UTF-8.'
            yield str(path), Problem('malformed', detail)
            continue
        for number, line in enumerate(lines, start=1):
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
            detail = f'is {line!r}. A line is the path of an image, a space, and a label'
            yield place, Problem('malformed', f'{detail}: the number of a class, from 0.')
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


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _are_polygons(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(polygon, list) and all(map(_is_real, polygon)) for polygon in value
    )


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_real(value) and float(value).is_integer()


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_is_real, value))
