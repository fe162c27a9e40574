"""Faults of data sets: their kinds, severities and descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Kinds of faults that must not be used for training. docs/datasets/checking.md explains all kinds,
#: and what training does about them.
ERRORS = frozenset((
    # The data set.
    'structure', 'classes', 'evaluator', 'no_objects', 'box_units', 'masks_ignored', 'malformed',
    'duplicate_id', 'orphan', 'label_conflict', 'split_overlap',
    # Image files.
    'missing_image', 'empty_file', 'truncated', 'unreadable', 'corrupt', 'elongated',
    'size_mismatch',
    # Annotations.
    'label_range', 'box_not_finite', 'box_negative', 'box_outside', 'outline_not_finite',
    'missing_mask', 'mask_size', 'mask_value', 'mask_mode',
))  # fmt: skip
#: Kinds of faults that can be used for training, but may be mistakes.
WARNINGS = frozenset((
    # The data set.
    'duplicate_entry', 'duplicate_image', 'other_classes', 'evaluator_objects', 'annotation_zero',
    'left_out_box', 'left_out_image', 'left_out_file', 'masks_one_class', 'mask_palette',
    'empty_class',
    # Image files.
    'tiny', 'sixteen_bit', 'cmyk', 'alpha', 'animated', 'exif_orientation',
    # Annotations.
    'box_empty', 'box_partly_outside', 'outline_short',
))  # fmt: skip


class Problem(NamedTuple):
    """A fault. Its string is a sentence.

    Args:
        kind: One of :data:`ERRORS` or :data:`WARNINGS`.
        detail: The rest of a sentence that begins with ``file``.
        file: The path of the file at fault, ``FILE:LINE``, or a name in the config. Default: '',
            for the caller to set with :func:`located`.
    """

    kind: str
    detail: str
    file: str = ''

    def __str__(self) -> str:
        return f'{self.file} {self.detail}'

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return 'error' if self.is_error else 'warning'

    @property
    def is_error(self) -> bool:
        """Whether training must not use the file."""
        return self.kind in ERRORS


def located(file: str | Path, problems: Iterable[Problem]) -> Iterator[Problem]:
    """Sets the file of problems."""
    return (problem._replace(file=str(file)) for problem in problems)


def listing(values: Sequence[Any], count: int = 12) -> str:
    """Joins the first values, and adds how many more there are."""
    shown = ', '.join(map(repr, values[:count]))
    return shown + (f' and {len(values) - count} more' if len(values) > count else '')
