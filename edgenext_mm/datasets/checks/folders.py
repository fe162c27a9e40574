"""Faults of images for classification, in one folder per class or listed in a text file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.fileio import list_from_file

from ...errors import UserError
from .classes import difference
from .findings import Problem, listing, located
from .image_files import is_hidden, left_out_files
from .samples import label_problems
from .source import Source, check_files

_USE_OURS = "use type='edgenext_mm.ImageFolder'"


def class_folders(root: str | Path, hidden: bool = False) -> list[str]:
    """Returns the names of the folders in a folder, sorted.

    Args:
        root: A folder.
        hidden: Whether to include hidden folders, which mmpretrain's ``CustomDataset`` treats as
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
        raise UserError(f'{root} contains no folders. It needs one folder of images per class.')
    return folders


def named_folder_problems(root: str | Path, classes: Sequence[str]) -> Iterator[Problem]:
    """Yields the first folder that is not a class."""
    folders = class_folders(root)
    for name in folders:
        if name not in classes:
            yield Problem(
                'classes',
                f'contains the folder {name!r}, which is not one of the classes '
                f'{listing(classes)}. {difference(folders, classes)} Rename or remove the folder, '
                'or add the class.',
                str(root),
            )
            return


def _numbered_folder_problems(root: str, classes: Sequence[str] | None) -> Iterator[Problem]:
    folders = class_folders(root, hidden=True)
    hidden = [name for name in folders if is_hidden(name)]
    if hidden:
        yield Problem(
            'classes',
            f'contains the hidden folder {hidden[0]!r}, which mmpretrain treats as a class. Delete '
            f'it, or {_USE_OURS}, which ignores hidden folders.',
        )
    elif classes is not None and len(classes) != len(folders):
        yield Problem(
            'classes',
            f'contains {len(folders)} folders ({listing(folders)}), but the data set has '
            f'{len(classes)} classes ({listing(classes)}). {difference(folders, classes)} Add or '
            f'remove folders so that each class has one, or {_USE_OURS}, which allows classes '
            'without a folder.',
        )
    elif classes is not None and {*classes} & {*folders} and list(classes) != folders:
        yield Problem(
            'classes',
            f'contains the folders {listing(folders)}, but the config names the classes '
            f'{listing(classes)}. {difference(folders, classes)} mmpretrain numbers the folders '
            'alphabetically, so results would have wrong names. Give the classes in that order, '
            f'or {_USE_OURS}, which finds the class of a folder by its name.',
        )


class FolderSource(Source):
    """One folder of images per class, for mmpretrain's ``CustomDataset``, which numbers the folders
    alphabetically, or for :class:`~edgenext_mm.datasets.image_folder.ImageFolder`, which finds them
    by name."""

    @property
    def _finds_by_name(self) -> bool:
        return hasattr(self.lazy, 'classes_from')

    def class_problems(self, split: str) -> Iterator[Problem]:
        """Yields folders or heads that disagree with the classes."""
        root, classes = self.lazy.img_prefix, self.lazy.metainfo.get('classes')
        check = named_folder_problems if self._finds_by_name else _numbered_folder_problems
        problems = list(located(root, check(root, classes)))
        yield from problems or super().class_problems(split)

    def class_advice(self, split: str) -> str:
        """Returns what to do if a split takes its classes from its own folders, else ''."""
        if split == 'train' or self._finds_by_name:
            return ''
        return (
            f'{split}_dataloader takes the classes from its own folders, in '
            f'{self.lazy.img_prefix}. Name the classes of training: '
            "type='edgenext_mm.ImageFolder' with `classes_from='FOLDER'` or with "
            '`metainfo=dict(classes=(...))`.'
        )

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields a problem if images are not used."""
        return left_out_files(self.lazy.img_prefix, self.lazy.extensions)


class ListSource(Source):
    """A text file whose lines are the path of an image and its label."""

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields faults of lines as ``FILE:LINE``."""
        labels: dict[str, str] = {}
        for number, line in enumerate(self._lines(), start=1):
            place = f'{self.lazy.ann_file}:{number}'
            name, _, label = line.strip().rpartition(' ')
            if not name or not label.lstrip('-').isdigit():
                detail = f'is {line!r}. A line is the path of an image, a space, and a label'
                yield Problem('malformed', f'{detail}: the number of a class, from 0.', place)
                continue
            if self.num_classes is not None:
                yield from located(place, label_problems(int(label), self.num_classes))
            if name not in labels:
                labels[name] = label
            elif labels[name] == label:
                yield Problem('duplicate_entry', f'lists {name} a second time.', place)
            else:
                detail = f'gives {name} the label {label}, an earlier line {labels[name]}.'
                yield Problem('label_conflict', detail, place)

    def check_files(self) -> None:
        """Checks that the images exist."""
        paths = [Path(self.lazy.img_prefix, line.rsplit(' ', 1)[0]) for line in self._lines()]
        check_files(paths, 'images', self.lazy.ann_file)

    def _lines(self) -> list[str]:
        try:
            return list_from_file(str(self.lazy.ann_file))
        except UnicodeDecodeError as error:
            raise UserError(
                f'{self.lazy.ann_file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.'
            ) from error
