"""Classes: their names, and the heads that predict them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict

from .findings import Problem, listing

HOW_TO_NAME_CLASSES = 'Name the classes with `metainfo=dict(classes=(...))` in the data set.'


def configured_classes(dataset: ConfigDict) -> Any:
    """Returns the classes that the config of a data set names; None if it names none."""
    return dataset.get('classes', (dataset.get('metainfo') or {}).get('classes'))


def name_problems(classes: Any) -> Iterator[Problem]:
    """Yields a problem if ``classes`` in a config is not a sequence of different names.

    Args:
        classes: The value in the config. None is accepted, and so is the path of an existing file,
            which mmengine reads.
    """
    if classes is None or (isinstance(classes, str) and os.path.isfile(classes)):
        return
    if isinstance(classes, str):
        yield Problem(
            'classes',
            f'has classes={classes!r}, which is a single string. A comma is missing: '
            f'classes=({classes!r},).',
        )
    elif not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        yield Problem('classes', f'has classes={classes!r}. It must be a tuple of names.')
    else:
        repeated = [name for name, count in Counter(classes).items() if count > 1]
        if repeated:
            yield Problem('classes', f'names the class {repeated[0]!r} more than once.')


def difference(first: Sequence[str], second: Sequence[str]) -> str:
    """Describes in a sentence how two lists of names differ."""
    only_first = [name for name in first if name not in second]
    only_second = [name for name in second if name not in first]
    if not only_first and not only_second:
        return 'They are the same names in another order.'
    parts = [f'only the first has {listing(only_first)}'] if only_first else []
    parts += [f'only the second has {listing(only_second)}'] if only_second else []
    text = ' and '.join(parts)
    return (
        spelling_hint(first, second)
        or spelling_hint(second, first)
        or f'{text[:1].upper()}{text[1:]}.'
    )


def spelling_hint(names: Sequence[str], known: Sequence[str]) -> str:
    """Explains in a sentence why a name is unknown: another case, or a missing comma.

    Args:
        names: Names, some of which are unknown.
        known: The known names.

    Returns:
        The sentence; '' if there is another reason.
    """
    simple = {_simplified(name): name for name in known}
    for name in (name for name in names if name not in known):
        if _simplified(name) in simple:
            return f'{name!r} and {simple[_simplified(name)]!r} differ in case or separators only.'
        for cut in range(1, len(name)):  # Python joins strings that no comma separates
            if name[:cut] in known and name[cut:] in known:
                parts = f'{name[:cut]!r} and {name[cut:]!r}'
                return f'{name!r} is {parts}: a comma is missing between them.'
    return ''


def _simplified(name: str) -> str:
    return ''.join(character for character in name.casefold() if character not in ' _-')


def split_problems(classes: Mapping[str, tuple[str, Sequence[str]]]) -> Iterator[Problem]:
    """Yields data sets of a config that number the classes differently than the first one.

    Args:
        classes: By name of a data set: the origin of its classes, and their names in order.
    """
    if not classes:
        return
    (first, (origin, expected)), *others = classes.items()
    for name, (place, given) in others:
        if list(given) == list(expected):
            continue
        # If one list starts with the other, the numbers agree.
        differ = any(a != b for a, b in zip(given, expected, strict=False))
        consequence = ', so that the same number stands for different classes' if differ else ''
        if 'folders' in place + origin:
            remedy = (
                "Give all data sets one list: type='edgenext_mm.ImageFolder' with "
                "`classes_from='FOLDER'`, the training folder whose folders name the classes, or "
                'with `metainfo=dict(classes=(...))`. A class without images then needs no folder.'
            )
        else:
            remedy = 'Give all data sets the same `metainfo=dict(classes=(...))`.'
        yield Problem(
            'classes' if differ else 'other_classes',
            f'has the classes {listing(given)} ({place}), but {first} has {listing(expected)} '
            f'({origin}){consequence}. {difference(expected, given)} {remedy}',
            name,
        )


#: Parts whose classes are not those of the data: any object, and stuff besides the data's things.
_OTHER_CLASSES = ('rpn_head', 'semantic_head')
#: Parts that predict the classes of the data, as paths without positions in lists.
_MAIN_HEADS = re.compile(
    r'model\.(head|bbox_head\w*|mask_head|decode_head|fam_head|odm_head'
    r'|roi_head\.(bbox_head|mask_head))(\.\d+)?'
)


def heads_with_classes(model: Any, name: str = 'model') -> Iterator[tuple[str, int]]:
    """Yields the paths of the parts of a model config that have ``num_classes``, and its value."""
    for key, value in model.items() if isinstance(model, dict) else enumerate(model):
        if not isinstance(value, dict | list | tuple) or key in _OTHER_CLASSES:
            continue
        if isinstance(value, dict) and isinstance(value.get('num_classes'), int):
            yield f'{name}.{key}', value['num_classes']
        yield from heads_with_classes(value, f'{name}.{key}')


def reads_class_names(model: Any) -> bool:
    """Whether a model takes the names of classes as text, so that its data sets may differ."""
    return any('text' in key or 'language' in key for key in model)


def head_problems(model: Any, classes: Sequence[str], advice: str = '') -> Iterator[Problem]:
    """Yields parts of a model that are for another number of classes than the data have.

    It is an error if a main head has no output for some labels, or if a detector or segmentor
    would predict classes without a name. Otherwise it is a warning.

    Args:
        model: The config of the model.
        classes: The classes of the data.
        advice: How to fix it. Default: '', to change the head or the classes.
    """
    if reads_class_names(model):
        return
    # Panoptic models have one head for things and one for stuff.
    has_stuff = any(key in model for key in ('semantic_head', 'panoptic_fusion_head'))
    for path, number in heads_with_classes(model):
        if number == len(classes):
            continue
        has_spare_outputs = number > len(classes) and path == 'model.head' and not advice
        is_binary = number == 1 and len(classes) == 2  # one output, above or below a threshold
        is_error = _MAIN_HEADS.fullmatch(path) and not (has_spare_outputs or is_binary or has_stuff)
        remedy = advice or (
            f'Set {path}.num_classes={len(classes)}, or the classes in the `metainfo` of the data '
            'sets.'
        )
        yield Problem(
            'classes' if is_error else 'other_classes',
            f'is for {number} classes, but the data has {len(classes)} ({listing(classes)}). '
            + remedy,
            path,
        )
