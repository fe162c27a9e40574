"""Which images are for training, validation and testing."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from ...errors import UserError
from .records import Annotations, ImageRecord

SPLITS = ('train', 'val', 'test')


def check_fractions(fractions: Sequence[float]) -> None:
    """Checks the fractions of ``--split``.

    Raises:
        UserError: If they are not two or three numbers between 0 and 1 that sum to 1.
    """
    in_range = all(0 < fraction < 1 for fraction in fractions)
    if len(fractions) not in (2, 3) or not in_range or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(
            f'--split takes two or three fractions that sum to 1 (train, val and test), got '
            f'{" ".join(str(fraction) for fraction in fractions)}. Example: --split 0.8 0.2.'
        )


def assign_splits(
    data: Annotations,
    contents: Callable[[ImageRecord], Sequence[str]],
    fractions: Sequence[float] | None = None,
    seed: int = 0,
    group: str | None = None,
) -> None:
    """Sets the split of all images.

    Splits of the source are kept if it has images for validation and ``fractions`` is None;
    images that the source gives no split to are then for training. A source without validation is
    split 0.8 to 0.2, and its test images stay apart.

    Args:
        data: Changed in place.
        contents: Class names of an image's objects, for stratified splits.
        fractions: Of train, val and, perhaps, test. Default: None.
        seed: Of the random order. The same images and seed give the same splits. Default: 0.
        group: Regular expression; images whose names match with the same text (of the first group
            in parentheses, if there is one) stay together. Default: None.
    """
    has_val = any(record.split == 'val' for record in data.images)
    if fractions is None and has_val and any(r.split == 'train' for r in data.images):
        for record in data.images:
            if record.split is None:
                data.report('changed', 'image without a split: put into train', record.path)
                record.split = 'train'
        return
    remaining = data.images
    if fractions is None:
        remaining = [r for r in data.images if r.split != 'test'] or data.images
        fractions = (0.8, 0.2)
    elif any(record.split for record in data.images):
        data.report('changed', 'splits of the source replaced by --split', '.')
    if len(remaining) == 1:
        _use_twice(data, remaining[0])
        return
    units = _group(remaining, group, data)
    if len(units) < len(fractions):
        raise UserError(
            f'{len(units)} groups of images cannot be split into {len(fractions)} parts. Give '
            'fewer --split fractions or a --group pattern that makes more groups.'
        )
    _stratify(units, contents, fractions, seed)


def _use_twice(data: Annotations, record: ImageRecord) -> None:
    """Lets one single image serve for training and validation."""
    record.split = 'train'
    twin = copy.deepcopy(record)
    twin.split = 'val'
    data.images.append(twin)
    detail = 'validation shows only whether the model learns this image by heart'
    data.report('note', 'one image only: used for training and validation', record.path, detail)


def _group(
    images: Sequence[ImageRecord], pattern: str | None, data: Annotations
) -> list[list[ImageRecord]]:
    """Images that have to stay together, in the order of their paths."""
    if pattern is None:
        return [[record] for record in sorted(images, key=lambda r: r.path)]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f'--group {pattern!r} is not a regular expression: {error}.') from error
    groups: dict[tuple[bool, str], list[ImageRecord]] = defaultdict(list)
    for record in sorted(images, key=lambda r: r.path):
        match = compiled.search(record.path.rpartition('/')[2])
        if match is None:
            data.report('note', 'name does not match --group: a group of its own', record.path)
            groups[False, record.path].append(record)
        else:
            groups[True, match[1] if compiled.groups else match[0]].append(record)
    return list(groups.values())


def _stratify(
    units: list[list[ImageRecord]],
    contents: Callable[[ImageRecord], Sequence[str]],
    fractions: Sequence[float],
    seed: int,
) -> None:
    """Gives each unit to the split that lacks most of the unit's rarest class.

    Units with rare classes come first, so that each split gets its share of them. This is the
    greedy method of Sechidis et al., "On the Stratification of Multi-Label Data" (2011), with the
    order fixed at the start.
    """
    present = [Counter({n for r in unit for n in contents(r)}) for unit in units]
    totals: Counter[str] = Counter()
    for names in present:
        totals.update(names.keys())
    order = list(range(len(units)))
    random.Random(seed).shuffle(order)

    def rarest(index: int) -> str:
        return min(present[index], key=lambda name: (totals[name], name), default='')

    # Larger units first within a class: small ones then even out the sizes.
    order.sort(key=lambda i: (totals.get(rarest(i), len(units) + 1), rarest(i), -len(units[i])))
    count = sum(len(unit) for unit in units)
    lacking_images = [fraction * count for fraction in fractions]
    lacking = [{name: fraction * total for name, total in totals.items()} for fraction in fractions]
    filled = [0] * len(fractions)
    for position, index in enumerate(order):
        empty = [split for split, number in enumerate(filled) if number == 0]
        choices: Sequence[int] = range(len(fractions))
        if len(order) - position <= len(empty):
            choices = empty  # no split stays empty
        name = rarest(index)
        best = max(
            choices, key=lambda split: (lacking[split].get(name, 0.0), lacking_images[split])
        )
        for record in units[index]:
            record.split = SPLITS[best]
        filled[best] += 1
        lacking_images[best] -= len(units[index])
        for name in present[index]:
            lacking[best][name] -= 1
