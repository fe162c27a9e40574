"""What of its annotations a data set uses, and what it leaves out without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import dota_lines
from .findings import Problem, listing

#: Share of boxes from which a file as a whole is taken to be in other units.
_MOST = 0.5
#: Share of boxes beyond their images from which corners are taken for corners.
_BEYOND = 0.25
#: Fewest boxes that say so.
_FEW = 4


def coco_use_problems(
    content: Mapping[str, Any],
    classes: Sequence[str],
    filter_cfg: Mapping[str, Any] | None = None,
    training: bool = True,
) -> Iterator[Problem]:
    """Boxes and images of a COCO file that mmdet leaves out.

    Args:
        content: Of the file, whose entries are complete.
        classes: Of the config.
        filter_cfg: Of the data set. Default: None.
        training: Whether the data set is for training; evaluation uses small boxes, too.
            Default: True.
    """
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
        name = names.get(entry['category_id'], '')
        reason = _why_left_out(entry, images[entry['image_id']], training, smallest)
        if name not in classes:
            reason = _OTHER
            others[name] += 1
        if reason is not None:
            reasons[reason] += 1
    categories = ', '.join(f'{name!r} {count:,}' for name, count in others.most_common(12))
    told = ', '.join(
        f'{count:,} are {reason}' + (f' ({categories})' if reason == _OTHER else '')
        for reason, count in reasons.most_common()
    )
    num_used = len(entries) - reasons.total()
    if not num_used:
        yield Problem(
            'no_objects',
            f'has {len(entries):,} boxes in {len(images):,} images, none of which can be used'
            + (f': {told}.' if told else '.'),
        )
    elif set(reasons) & _TOLD_OF:
        yield Problem(
            'left_out_box', f'has {len(entries):,} boxes, of which {num_used:,} are used: {told}.'
        )


_CROWD, _IGNORED = 'marked as a crowd', 'marked to be ignored'
_OTHER, _AREA = 'of categories that the config leaves out', 'of area 0'
_SMALL = 'in images smaller than `filter_cfg.min_size`'
#: Reasons that are neither wanted nor a fault of single boxes, which is told of each.
_TOLD_OF = {_OTHER, _AREA, _SMALL}


def _why_left_out(
    entry: Mapping[str, Any],
    image: Mapping[str, Any],
    training: bool,
    smallest: float,
) -> str | None:
    """Why mmdet leaves out an object, or does not learn from it; None if it does."""
    x, y, width, height = entry['bbox']
    shown_width = min(x + width, image['width']) - max(x, 0)
    shown_height = min(y + height, image['height']) - max(y, 0)
    of_training = {
        _IGNORED: bool(entry.get('ignore')),
        'outside of their images': not (shown_width > 0 and shown_height > 0),
        'less than a pixel wide or high': width < 1 or height < 1,
        _AREA: entry['area'] <= 0,
        _SMALL: min(image['width'], image['height']) < smallest,
    }
    reasons = {
        _CROWD: bool(entry.get('iscrowd')),
        **(of_training if training else {}),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _unit_problem(
    entries: Sequence[Mapping[str, Any]], images: Mapping[int, Mapping[str, Any]]
) -> Problem | None:
    """Whether boxes are fractions of the image, or two corners."""
    if not entries:
        return None
    boxes = np.array([entry['bbox'] for entry in entries], float)
    of = [images[entry['image_id']] for entry in entries]
    sizes = np.array([(image['width'], image['height']) for image in of], float)
    count = f'{len(entries):,} boxes'
    fractions = ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if fractions.mean() >= _MOST:
        return Problem(
            'box_units',
            f'has {fractions.sum():,} of {count} within 0 to 1, as fractions of the image. COCO '
            'boxes are in pixels; multiply by width and height.',
        )
    with np.errstate(invalid='ignore'):
        corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= sizes + 1).all(
            axis=1
        )
        beyond = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(axis=1)
        areas = np.array([entry['area'] for entry in entries], float)
        as_corners = np.isclose(areas, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), rtol=0.01)
        as_sizes = np.isclose(areas, boxes[:, 2:].prod(axis=1), rtol=0.01)
    by_area = (as_corners & ~as_sizes).mean() > _MOST
    if corners.all() and len(entries) >= _FEW and (beyond.mean() >= _BEYOND or by_area):
        return Problem(
            'box_units',
            f'has {count}, each of which fits its image as two corners (x1, y1, x2, y2), and '
            f'{beyond.sum():,} of which reach beyond it as x, y, width, height, which COCO boxes '
            'are. Write x1, y1, x2 - x1, y2 - y1.',
        )
    return None


def dota_use_problems(
    ann_folder: str | Path,
    image_folder: str | Path,
    suffix: str,
    diff_thr: int = 100,
) -> Iterator[Problem]:
    """Objects and images of DOTA's format that mmrotate leaves out.

    Args:
        ann_folder: Of label files without faults.
        image_folder: Of the images.
        suffix: Of the images' names, without a dot.
        diff_thr: Difficulty above which objects are ignored. Default: 100.
    """
    paths = sorted(Path(ann_folder).glob('[!.]*.txt'))
    lines = [line.split() for path in paths for line in dota_lines(path)]
    easy = np.array([int(fields[9]) <= diff_thr for fields in lines], bool)
    corners = np.array([fields[:8] for fields in lines], float).reshape(-1, 8)
    x, y = corners[:, ::2], corners[:, 1::2]
    areas = abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    fractions = ((corners >= 0) & (corners <= 1)).all(axis=1)
    if lines and fractions.mean() >= _MOST:
        yield Problem(
            'box_units',
            f'has {fractions.sum():,} of {len(lines):,} objects within 0 to 1, as fractions of '
            'the image. DOTA labels are in pixels; multiply by width and height.',
        )
    elif not (easy & (areas > 0)).any():
        reasons = [
            f'{(~easy).sum():,} are above the difficulty {diff_thr} (`diff_thr`)' * (~easy).any(),
            f'{(areas == 0).sum():,} are of area 0' * (areas == 0).any(),
        ]
        told = f': {", ".join(filter(None, reasons))}' if lines else ''
        yield Problem(
            'no_objects',
            f'has {len(lines):,} objects in {len(paths):,} label files, none of which can be '
            f'used{told}.',
        )
    labelled = {path.stem for path in paths}
    images = sorted(Path(image_folder).glob(f'[!.]*.{suffix}'))
    without = [path.name for path in images if path.stem not in labelled]
    if without:
        yield Problem(
            'left_out_image',
            f'has no label file for {len(without):,} of {len(images):,} images, which are left '
            f'out: {listing(without, 3)}. An image without objects takes an empty file.',
        )


def mask_use_problems(
    values: Iterable[np.ndarray],
    num_classes: int,
    ignored: int = 255,
) -> Iterator[Problem]:
    """Whether masks hold more than one class.

    Args:
        values: The values of each mask as training has them, after labels are mapped.
        num_classes: Of the config.
        ignored: Value of pixels that do not count. Default: 255.
    """
    found: set[int] = set()
    count = 0
    for held in values:
        count += 1
        found.update(np.unique(held).tolist())
    classes = sorted(value for value in found if 0 <= value < num_classes and value != ignored)
    if not count or len(classes) > 1 or num_classes == 1:
        return
    only = f'only the class {classes[0]}' if classes else 'no class'
    if ignored in found:
        yield Problem(
            'masks_ignored',
            f'hold {only} in {count:,} masks: all other pixels have the value {ignored}, which '
            'does not count. Where it marks an object, write the number of its class, such as 1 '
            'in place of 255.',
        )
    else:
        yield Problem('masks_one_class', f'hold {only} in {count:,} masks.')
