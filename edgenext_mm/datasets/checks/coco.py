"""Faults of COCO annotation files, most of which mmdet and pycocotools do not report."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict

from ...errors import UserError
from .classes import HOW_TO_NAME_CLASSES, spelling_hint
from .findings import Problem, listing, located
from .samples import box_problems
from .source import Source, check_files


def read_coco(ann_file: str | Path) -> dict[str, Any]:
    """Reads a COCO annotation file.

    Raises:
        UserError: If it cannot be read, or is not a COCO annotation file.
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
            raise UserError(f'{ann_file} has {kind} as `{key}`, but COCO files have a list.')
    return content


class CocoSource(Source):
    """A COCO annotation file."""

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields faults of entries and of the file as a whole.

        Raises:
            UserError: If the file cannot be read, or is not a COCO annotation file.
        """
        content = read_coco(self.lazy.ann_file)
        evaluated, outlines = self._use(split)
        entries = list(_entry_problems(content, evaluated, outlines))
        yield from located(self.lazy.ann_file, entries)
        if any(problem.kind == 'malformed' for problem in entries):
            return
        classes = self.classes or ()
        sorted_by_id = 'Objects365' in type(self.lazy).__name__
        whole = list(_class_problems(content, classes, sorted_by_id)) or _use_problems(
            content, classes, self.lazy.filter_cfg, training=not self.lazy.test_mode
        )
        yield from located(self.lazy.ann_file, whole)
        if single:
            yield from object_problems(content, self.lazy.data_prefix['img'])

    def _use(self, split: str) -> tuple[bool, bool]:
        """Whether pycocotools evaluates with a file, and whether each object needs an outline."""
        if split == 'train':
            return False, any(step.get('with_mask') for step in self.dataset.get('pipeline') or [])
        evaluating = [
            metric
            for metric in metrics(self.config, split)
            if metric.get('ann_file') and not metric.get('format_only')
        ]
        outlines = any('segm' in metric.get('metric', 'bbox') for metric in evaluating)
        return bool(evaluating), outlines

    def check_files(self) -> None:
        """Checks that the images exist."""
        folder = Path(self.lazy.data_prefix['img'])
        images = read_coco(self.lazy.ann_file)['images']
        check_files([folder / i['file_name'] for i in images], 'images', self.lazy.ann_file)


def metrics(config: Config, split: str) -> Iterator[ConfigDict]:
    """Yields the metrics of an evaluator: a dict, a list of dicts, or a dict with ``metrics``."""
    chosen = config.get(f'{split}_evaluator') or []
    for metric in chosen if isinstance(chosen, list | tuple) else [chosen]:
        inner = metric.get('metrics') or [metric]
        yield from inner if isinstance(inner, list | tuple) else [inner]


# Entries.


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_real(value) and float(value).is_integer()


def _is_key(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_positive(value: Any) -> bool:
    return _is_real(value) and value > 0


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_is_real, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


#: The fields that mmdet and pycocotools read: a test of the value, and what passes it.
_KEY, _SIDE = (_is_key, 'an integer or a string'), (_is_positive, 'a positive number')
_NAME = (_is_text, 'a string')
_FIELDS: dict[str, dict[str, tuple]] = {
    'images': dict(id=_KEY, file_name=_NAME, height=_SIDE, width=_SIDE),
    'categories': dict(id=_KEY, name=_NAME),
    'annotations': dict(
        id=(_is_whole, 'an integer'),
        image_id=_KEY,
        category_id=_KEY,
        bbox=(_is_box, 'four numbers: x, y, width, height'),
        area=(_is_real, 'a number'),
    ),
}
_WHY_NEEDED = {
    'iscrowd': ' pycocotools needs it at validation: 1 for a crowd, otherwise 0.',
    'segmentation': ' The config loads or evaluates masks, so each object needs an outline.',
}


def _entry_problems(
    content: Mapping[str, Any], evaluated: bool, outlines: bool
) -> Iterator[Problem]:
    """Yields entries that are incomplete, duplicate, or refer to entries that do not exist."""
    yield from _malformed_entries(content, evaluated, outlines)
    ids = {key: Counter(_ids(content[key])) for key in ('images', 'categories', 'annotations')}
    for key, counts in ids.items():
        for number, count in counts.items():
            if count > 1:
                yield Problem('duplicate_id', f'lists {count} {key} with the id {number}.')
    categories, images = set(ids['categories']), set(ids['images'])
    annotations = [
        entry
        for entry in content['annotations']
        if not any(_faulty_fields('annotations', entry, evaluated, outlines))
    ]
    for entry in annotations:
        name, category, image = (entry[key] for key in ('id', 'category_id', 'image_id'))
        if category not in categories:
            known = listing(sorted(categories, key=str))
            detail = f'has annotation {name} of category {category!r}'
            yield Problem('orphan', f'{detail}, which its `categories` do not list ({known}).')
        if image not in images:
            detail = f'has annotation {name} of image {image!r}'
            yield Problem('orphan', f'{detail}, which its `images` do not list.')
    if evaluated and any(entry['id'] == 0 for entry in annotations):
        yield Problem(
            'annotation_zero',
            'has an annotation with the id 0, whose detections pycocotools counts as wrong. Number '
            'annotations from 1.',
        )


def _ids(entries: Sequence[Any]) -> Iterator[int | str]:
    for entry in entries:
        if isinstance(entry, Mapping) and _is_key(entry.get('id')):
            yield entry['id']


def _malformed_entries(
    content: Mapping[str, Any], evaluated: bool, outlines: bool
) -> Iterator[Problem]:
    """Yields missing fields and fields of a wrong type, each once with a count."""
    for key in _FIELDS:
        faults: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for index, entry in enumerate(content[key]):
            for fault, before, after in _faulty_fields(key, entry, evaluated, outlines):
                faults[fault].append((index, before, after))
        for found in faults.values():
            index, before, after = found[0]
            count = f' ({len(found):,} of {len(content[key]):,} {key})' if found[1:] else ''
            yield Problem('malformed', f'{before} {key}[{index}]{count}.{after}')


def _faulty_fields(
    key: str, entry: Any, evaluated: bool, outlines: bool
) -> Iterator[tuple[str, str, str]]:
    """Yields a name of each fault of an entry, and the message before and after its position."""
    if not isinstance(entry, Mapping):
        yield 'entry', f'has {entry!r} as', ' It must be a dict.'
        return
    required = dict(_FIELDS[key])
    if key == 'annotations' and (evaluated or entry.get('iscrowd') is not None):
        required['iscrowd'] = (_is_flag, '0 or 1')
    if key == 'annotations' and outlines:
        required['segmentation'] = (bool, 'an outline')
    for name, (passes, expected) in required.items():
        if name not in entry:
            yield f'no {name}', f'has no `{name}` in', _WHY_NEEDED.get(name, '')
        elif not passes(entry[name]):
            yield name, f'has {entry[name]!r} as `{name}` of', f' It must be {expected}.'


# Classes.


def _class_problems(
    content: Mapping[str, Any], classes: Sequence[str], sorted_by_id: bool
) -> Iterator[Problem]:
    """Yields a problem if the categories disagree with the classes of a config.

    A data set with ``sorted_by_id`` sorts the categories; others keep the order of the file.
    """
    categories = content['categories']
    if sorted_by_id:
        categories = sorted(categories, key=lambda category: category['id'])
    names = [category['name'] for category in categories]
    unknown = [name for name in classes if name not in names]
    repeated = [name for name, count in Counter(names).items() if count > 1 and name in classes]
    order = [name for name in names if name in classes]
    if unknown:
        yield Problem(
            'classes',
            f'has no category named {listing(unknown)}. It has {listing(names)}. '
            + (spelling_hint(classes, names) or HOW_TO_NAME_CLASSES),
        )
    elif repeated:
        yield Problem(
            'classes',
            f'has more than one category named {repeated[0]!r}, which mmdet numbers as different '
            'classes.',
        )
    elif order != list(classes):
        yield Problem(
            'classes',
            f'has the classes {listing(classes)} of the config in the order {listing(order)}. '
            'mmdet numbers them as the file does, so results would have wrong names. Give the '
            'classes of all data sets in that order; if files differ, sort the `categories` of '
            'one.',
        )


# Objects.


def object_problems(content: Mapping[str, Any], folder: str | Path) -> Iterator[Problem]:
    """Yields images that are listed twice, and faults of single objects. mmdet silently drops such
    objects, except those whose coordinates are not finite.

    Args:
        content: A file whose entries are complete.
        folder: The folder of its images.
    """
    images = {image['id']: image for image in content['images']}
    objects = [entry for entry in content['annotations'] if entry['image_id'] in images]
    for name, count in Counter(image['file_name'] for image in content['images']).items():
        if count > 1:
            detail = f'is listed {count} times.'
            yield Problem('duplicate_entry', detail, os.path.join(folder, name))
    if not objects:
        return
    boxes, sizes = _boxes_and_sizes(objects, images)
    points = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    faults = [(objects[index], problem) for index, problem in box_problems(points, sizes)]
    for entry in objects:
        outline, image = entry.get('segmentation'), images[entry['image_id']]
        faults += [(entry, problem) for problem in _outline_problems(outline, image)]
    for entry, problem in faults:
        path = os.path.join(folder, images[entry['image_id']]['file_name'])
        detail = f'{problem.detail.removesuffix(".")} (annotation {entry["id"]}).'
        yield Problem(problem.kind, detail, path)


def _boxes_and_sizes(
    objects: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, 4) boxes, and (N, 2) widths and heights of their images."""
    boxes = np.array([entry['bbox'] for entry in objects], float)
    own = [images[entry['image_id']] for entry in objects]
    return boxes, np.array([(image['width'], image['height']) for image in own], float)


def _outline_problems(outline: Any, image: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields faults of run lengths, a dict, or of polygons, a list of lists of numbers."""
    if isinstance(outline, Mapping):
        size, listed = [image['height'], image['width']], outline.get('size')
        if listed != size:
            yield Problem('mask_size', f'has an outline for the size {listed}, not {size}.')
        elif not isinstance(outline.get('counts'), list | str):
            yield Problem('malformed', 'has run lengths without `counts`.')
        return
    polygons = outline or []
    if not isinstance(polygons, list) or not all(
        isinstance(polygon, list) and all(map(_is_real, polygon)) for polygon in polygons
    ):
        yield Problem('malformed', 'has an outline that is neither polygons nor run lengths.')
    elif not math.isfinite(sum(map(sum, polygons))):
        yield Problem('outline_not_finite', 'has an outline with a coordinate that is not finite.')
    elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        yield Problem('outline_short', 'has an outline of fewer than three corners.')


# Use.

_CROWD, _OTHER = 'marked as a crowd', 'of categories that the config leaves out'
_ZERO_AREA, _SMALL = 'of area 0', 'in images smaller than `filter_cfg.min_size`'
#: Reasons to warn about. The others are intended, or reported for each object.
_UNEXPECTED = {_OTHER, _ZERO_AREA, _SMALL}

#: Fraction of the boxes that must look like other units to reject a file.
_MOST = 0.5
#: Fraction of the boxes that must reach beyond their images to be taken for corners.
_BEYOND = 0.25
#: Smallest number of boxes to be taken for corners.
_MIN_BOXES = 4


def _use_problems(
    content: Mapping[str, Any],
    classes: Sequence[str],
    filter_cfg: Mapping[str, Any] | None,
    training: bool,
) -> Iterator[Problem]:
    """Yields a problem if boxes are in other units, or if mmdet leaves some out."""
    images = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    entries = [entry for entry in content['annotations'] if entry['image_id'] in images]
    units = _unit_problem(entries, images)
    if units is not None:
        yield units
        return
    smallest = (filter_cfg or {}).get('min_size', 0)
    reasons: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for entry in entries:
        name = names.get(entry['category_id'], '(unlisted category)')
        if name not in classes:
            reasons[_OTHER] += 1
            others[name] += 1
        elif reason := _why_left_out(entry, images[entry['image_id']], training, smallest):
            reasons[reason] += 1
    categories = ', '.join(f'{name!r} {count:,}' for name, count in others.most_common(12))
    parts = [
        f'{count:,} are {reason}' + f' ({categories})' * (reason == _OTHER)
        for reason, count in reasons.most_common()
    ]
    num_used = len(entries) - reasons.total()
    if not num_used:
        yield Problem(
            'no_objects',
            f'has {len(entries):,} boxes in {len(images):,} images, none of which can be used'
            + (f': {", ".join(parts)}.' if parts else '.'),
        )
    elif set(reasons) & _UNEXPECTED:
        detail = f'has {len(entries):,} boxes, of which {num_used:,} are used: {", ".join(parts)}.'
        yield Problem('left_out_box', detail)


def _why_left_out(
    entry: Mapping[str, Any], image: Mapping[str, Any], training: bool, smallest: float
) -> str | None:
    """Returns why mmdet leaves out an object or does not learn from it; None if it does."""
    if entry.get('iscrowd'):
        return _CROWD
    if not training:
        return None
    x, y, width, height = entry['bbox']
    visible_width = min(x + width, image['width']) - max(x, 0)
    visible_height = min(y + height, image['height']) - max(y, 0)
    reasons = {
        'marked to be ignored': bool(entry.get('ignore')),
        'outside of their images': not (visible_width > 0 and visible_height > 0),
        'less than a pixel wide or high': width < 1 or height < 1,
        _ZERO_AREA: entry['area'] <= 0,
        _SMALL: min(image['width'], image['height']) < smallest,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _unit_problem(
    entries: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]]
) -> Problem | None:
    """Checks whether boxes are fractions of the image, or two corners."""
    if not entries:
        return None
    boxes, sizes = _boxes_and_sizes(entries, images)
    first, last = boxes[:, :2], boxes[:, 2:]
    count = f'{len(entries):,} boxes'
    fractions = ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (last > 0).all(axis=1)
    if fractions.mean() >= _MOST:
        return Problem(
            'box_units',
            f'has {fractions.sum():,} of {count} within 0 to 1, as fractions of the image. COCO '
            'boxes are in pixels: multiply by width and height.',
        )
    with np.errstate(invalid='ignore'):
        fits_as_corners = (last > first).all(axis=1) & (last <= sizes + 1).all(axis=1)
        beyond = (first + last > sizes + 1).any(axis=1)
        areas = np.array([entry['area'] for entry in entries], float)
        area_of_corners = np.isclose(areas, (last - first).prod(axis=1), rtol=0.01)
        area_of_sizes = np.isclose(areas, last.prod(axis=1), rtol=0.01)
    by_area = (area_of_corners & ~area_of_sizes).mean() > _MOST
    if (
        fits_as_corners.all()
        and len(entries) >= _MIN_BOXES
        and (beyond.mean() >= _BEYOND or by_area)
    ):
        return Problem(
            'box_units',
            f'has {count} that all fit their images as two corners (x1, y1, x2, y2), but '
            f'{beyond.sum():,} of them reach beyond as x, y, width, height, which COCO requires. '
            'Write x1, y1, x2 - x1, y2 - y1.',
        )
    return None
