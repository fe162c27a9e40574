"""The classes of a data set: their names, the folders that hold them, and what splits share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import UserError
from .findings import Located, Problem, listing

#: Folders that operating systems and archives leave behind, beside those with a leading dot.
_OF_SYSTEMS = ('__MACOSX', '__pycache__', '@eaDir', '$RECYCLE.BIN', 'lost+found')
#: Endings of images that Pillow does not read.
_OTHER_IMAGES = ('.heic', '.heif', '.jxl', '.dng', '.npy')


def name_problems(classes: Any) -> Iterator[Problem]:
    """Whether ``classes`` of a config is a list of different names.

    Args:
        classes: As the config gives it; None passes. A string is accepted where it is the path of
            a file, which mmengine reads.
    """
    if classes is None or (isinstance(classes, str) and os.path.isfile(classes)):
        return
    if isinstance(classes, str):
        yield Problem(
            'classes',
            f'has classes={classes!r}, which is a single text. A comma is missing: '
            f'classes=({classes!r},).',
        )
    elif not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        yield Problem('classes', f'has classes={classes!r}. It takes a tuple of names.')
    else:
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if twice:
            yield Problem('classes', f'names the class {twice[0]!r} more than once.')


def is_hidden(path: str) -> bool:
    """Whether a relative path has a hidden part, such as ``.ipynb_checkpoints`` or ``._a.jpg``."""
    parts = path.replace(os.sep, '/').split('/')
    return any(part.startswith('.') or part in _OF_SYSTEMS for part in parts)


def class_folders(root: str | Path, hidden: bool = False) -> list[str]:
    """The names of the folders in a folder, sorted.

    Args:
        root: A folder.
        hidden: Whether hidden folders count. mmpretrain's ``CustomDataset`` takes them for
            classes. Default: False.

    Raises:
        UserError: If there is none.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise UserError(f'The folder {root} cannot be listed: {error.strerror}.') from error
    folders = [name for name in names if hidden or not is_hidden(name)]
    if not folders:
        raise UserError(f'{root} holds no folders. It takes one folder of images for each class.')
    return folders


def numbered_folder_problems(root: str | Path, classes: Sequence[str] | None) -> Iterator[Problem]:
    """Faults of folders that are numbered in alphabetical order, as mmpretrain's ``CustomDataset``
    does.

    Args:
        root: Of the folders.
        classes: Of the config; None where the folders name them.
    """
    folders = class_folders(root, hidden=True)
    hidden = [name for name in folders if is_hidden(name)]
    if hidden:
        yield Problem(
            'classes',
            f'holds the hidden folder {hidden[0]!r}, which mmpretrain takes for a class. Delete '
            f'it, or {_USE_OURS}, which ignores hidden folders.',
        )
    elif classes is not None and len(classes) != len(folders):
        yield Problem(
            'classes',
            f'holds {len(folders)} folders ({listing(folders)}), but the data set has '
            f'{len(classes)} classes ({listing(classes)}). {difference(folders, classes)} It takes '
            f'one folder for each class. Add or remove folders, or {_USE_OURS}, with which a class '
            'may have none.',
        )
    elif classes is not None and {*classes} & {*folders} and list(classes) != folders:
        yield Problem(
            'classes',
            f'holds the folders {listing(folders)}, but the config names the classes '
            f'{listing(classes)}. {difference(folders, classes)} mmpretrain numbers the folders in '
            'alphabetical order, so results would have wrong names. Give the classes in that '
            f'order, or {_USE_OURS}, which finds the class of a folder by its name.',
        )


_USE_OURS = "use type='edgenext_mm.ImageFolder'"


def named_folder_problems(root: str | Path, classes: Sequence[str]) -> Iterator[Problem]:
    """Folders that are none of the classes, where folders are found by name, as
    :class:`~edgenext_mm.datasets.image_folder.ImageFolder` does."""
    folders = class_folders(root)
    for name in folders:
        if name not in classes:
            yield Problem(
                'classes',
                f'holds the folder {name!r}, which is none of the classes {listing(classes)}. '
                f'{difference(folders, classes)} Rename or remove the folder, or add the class.',
            )
            return


def difference(first: Sequence[str], second: Sequence[str]) -> str:
    """What two lists of names do not share, as a sentence."""
    only_first = [name for name in first if name not in second]
    only_second = [name for name in second if name not in first]
    if not only_first and not only_second:
        return 'They are the same names in another order.'
    told = [f'only the first has {listing(only_first)}'] if only_first else []
    told += [f'only the second has {listing(only_second)}'] if only_second else []
    text = ' and '.join(told)
    return slip(first, second) or slip(second, first) or f'{text[:1].upper()}{text[1:]}.'


def slip(names: Sequence[str], known: Sequence[str]) -> str:
    """Why a name is not among the known ones, as a sentence: its case, or a missing comma.

    Args:
        names: Some of which are not known.
        known: The right names.

    Returns:
        '' where it is neither.
    """
    alike = {_simple(name): name for name in known}
    for name in (name for name in names if name not in known):
        if _simple(name) in alike:
            return f'{name!r} and {alike[_simple(name)]!r} differ in case or separators only.'
        for cut in range(1, len(name)):  # Python joins texts that no comma separates
            if name[:cut] in known and name[cut:] in known:
                parts = f'{name[:cut]!r} and {name[cut:]!r}'
                return f'{name!r} is {parts}: a comma is missing between them.'
    return ''


def _simple(name: str) -> str:
    return ''.join(character for character in name.casefold() if character not in ' _-')


def split_problems(classes: Mapping[str, tuple[str, Sequence[str]]]) -> Iterator[Located]:
    """Data sets of a config that number the classes in different ways.

    Args:
        classes: By a data set's name in the config: where its classes come from, and their names
            in order. The first one counts.

    Yields:
        Name of a data set, and a fault.
    """
    if not classes:
        return
    (first, (origin, wanted)), *others = classes.items()
    for name, (place, given) in others:
        if list(given) == list(wanted):
            continue
        # Where one list begins as the other, the numbers agree.
        differ = any(a != b for a, b in zip(given, wanted, strict=False))
        consequence = ', so that the same number stands for different classes' if differ else ''
        detail = (
            f'has the classes {listing(given)} ({place}), but {first} has {listing(wanted)} '
            f'({origin}){consequence}. {difference(wanted, given)} {_how_to_share(place, origin)}'
        )
        yield name, Problem('classes' if differ else 'other_classes', detail)


def _how_to_share(*places: str) -> str:
    if any('folders' in place for place in places):
        return (
            "Give all data sets one list: type='edgenext_mm.ImageFolder' with "
            "`classes_from='FOLDER'`, the folder of training whose folders name the classes, or "
            'with `metainfo=dict(classes=(...))`. A class without images needs no folder then.'
        )
    return 'Give all data sets the same `metainfo=dict(classes=(...))`.'


def left_out_files(
    root: str | Path, extensions: Sequence[str], fold_case: bool = True
) -> Iterator[Problem]:
    """Images in a folder that a data set leaves out because of their endings.

    Args:
        root: A folder.
        extensions: The endings that the data set reads.
        fold_case: Whether case does not count. Default: True.
    """
    Image.init()
    images = {*Image.registered_extensions(), *_OTHER_IMAGES}
    names = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        names += [
            os.path.relpath(os.path.join(folder, name), root)
            for name in files
            if not is_hidden(name)
            and os.path.splitext(name)[1].lower() in images
            and not (name.lower() if fold_case else name).endswith(tuple(extensions))
        ]
    if names:
        counts = Counter(os.path.splitext(name)[1] for name in names)
        told = ', '.join(f'{ending} {count:,}' for ending, count in counts.most_common())
        yield Problem(
            'left_out_file',
            f'holds {len(names):,} images that are not used because of their endings ({told}): '
            f'{listing(sorted(names), 3)}. The data set reads {", ".join(sorted(extensions))}.',
        )
