"""The annotations of a data set on disk."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ...check_settings import is_checked
from ...errors import UserError
from .classes import HOW_TO_NAME_CLASSES, configured_classes, head_problems
from .findings import Problem


@dataclass(frozen=True)
class Source:
    """The annotations of a data set. Subclasses check their formats.

    Args:
        config: A full config.
        dataset: The config of the data set.
        lazy: The data set, built but not loaded. It knows the paths of its files.
        classes: Class names; None if unknown.
        num_classes: Number of classes of the data set, or else of a head; None if unknown.
    """

    config: Config
    dataset: ConfigDict
    lazy: Any
    classes: Sequence[str] | None = None
    num_classes: int | None = None

    def problems(self, split: str, single: bool = True) -> Iterator[Problem]:
        """Yields faults that the annotation files and the names of other files show.

        Args:
            split: ``train``, ``val`` or ``test``.
            single: Whether to yield faults of single samples. Default: True.

        Raises:
            UserError: If an annotation file cannot be read.
        """
        if is_checked(self.config, 'classes'):
            yield from self.class_problems(split)
        if is_checked(self.config, 'data'):
            yield from self.entry_problems(split, single)

    def class_problems(self, split: str) -> Iterator[Problem]:
        """Yields heads, and class folders, that disagree with the classes of the data."""
        if self.classes is not None:
            yield from head_problems(
                self.config.get('model', {}), self.classes, self.class_advice(split)
            )

    def class_advice(self, split: str) -> str:
        """Returns what to do about a head for other classes if nothing names the classes of the
        data, else ''."""
        if configured_classes(self.dataset) is not None:
            return ''
        return (
            f'These are the classes of {type(self.lazy).__name__}. {HOW_TO_NAME_CLASSES} If '
            f'they are those of the data, set the `num_classes` of the head to '
            f'{len(self.classes or ())}.'
        )

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields faults of the entries of annotation files."""
        return iter(())

    def content_problems(self, single: bool = True) -> Iterator[Problem]:
        """Yields faults that need some of the image files to be opened.

        Args:
            single: Whether to yield faults of single files. Default: True.
        """
        return iter(())

    def check_files(self) -> None:
        """Checks that the files that the annotations name exist.

        Raises:
            UserError: If one does not.
        """


def check_files(paths: Sequence[Path], kind: str, source: object = None) -> None:
    """Checks that files exist. It lists each folder once, since asking for every file takes minutes
    on network storage.

    Args:
        paths: The paths of the files.
        kind: What they are, for the message.
        source: The path of what names them. Default: None.

    Raises:
        UserError: If one does not exist, or there are none.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    if not folders:
        raise UserError(f'{source or "The data set"} names no {kind}.')
    for folder, expected in folders.items():
        present = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        missing = [path for path in expected if path.name not in present]
        if missing:
            origin = f' named in {source}' if source else ''
            raise UserError(
                f'{len(missing)} of {len(expected)} {kind}{origin} do not exist. The first is '
                f'{missing[0]}.'
            )
