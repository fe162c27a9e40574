"""Faults of DOTA label files, most of which mmrotate does not report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import UserError
from .classes import spelling_hint
from .findings import Problem, listing, located
from .source import Source, check_files

#: Fraction of the objects that must look like fractions of the image to reject a folder.
_MOST = 0.5


class DotaSource(Source):
    """A folder of DOTA label files."""

    def entry_problems(self, split: str, single: bool) -> Iterator[Problem]:
        """Yields faults of lines as ``FILE:LINE``, and of the folder as a whole.

        Raises:
            UserError: If there is no label file.
        """
        paths = self._label_files()
        if not paths:
            raise UserError(f'The folder {self.lazy.ann_file} contains no label file (*.txt).')
        problems, objects = [], []
        for path in paths:
            try:
                with path.open(encoding='utf-8') as file:
                    lines = [line.rstrip('\n') for line in file]
            except UnicodeDecodeError as error:
                detail = f'is not UTF-8 text (byte {error.start}). Save it as UTF-8.'
                problems.append(Problem('malformed', detail, str(path)))
                continue
            for number, line in enumerate(lines, start=1):
                problems += located(f'{path}:{number}', _line_problems(line, self.classes or ()))
                objects.append(line.split())
        yield from problems
        if not problems:
            use = _use_problems(objects, len(paths), self.lazy.diff_thr)
            yield from located(self.lazy.ann_file, use)
            yield from self._left_out_images({path.stem for path in paths})

    def _left_out_images(self, labelled: set[str]) -> Iterator[Problem]:
        folder, suffix = self.lazy.data_prefix['img_path'], self.lazy.img_suffix
        images = sorted(Path(folder).glob(f'[!.]*.{suffix}'))
        without = [path.name for path in images if path.stem not in labelled]
        if without:
            yield Problem(
                'left_out_image',
                f'has no label file for {len(without):,} of {len(images):,} images, which are left '
                f'out: {listing(without, 3)}. Write an empty file for an image without objects.',
                str(self.lazy.ann_file),
            )

    def check_files(self) -> None:
        """Checks that the images exist."""
        folder, suffix = Path(self.lazy.data_prefix['img_path']), self.lazy.img_suffix
        images = [folder / f'{path.stem}.{suffix}' for path in self._label_files()]
        check_files(images, 'images', self.lazy.ann_file)

    def _label_files(self) -> list[Path]:
        """Returns the label files without hidden ones, as mmrotate does."""
        return sorted(Path(self.lazy.ann_file).glob('[!.]*.txt'))


def _line_problems(line: str, classes: Sequence[str]) -> Iterator[Problem]:
    """Yields a problem unless a line has eight numbers, a class of the config and a difficulty."""
    fields = line.split()
    numbers = len(fields) == 10 and all(map(_is_finite, fields[:8]))
    if not numbers or not fields[9].lstrip('-').isdigit():
        yield Problem(
            'malformed',
            f'is {line!r}. A line of DOTA labels is `x1 y1 x2 y2 x3 y3 x4 y4 class difficulty`; '
            'splitting images into patches removes the header lines. Remove empty lines and byte '
            'order marks; the difficulty is an integer.',
        )
    elif fields[8] not in classes:
        hint = spelling_hint([fields[8]], classes) or spelling_hint(classes, [fields[8]])
        detail = f'is of class {fields[8]!r}. The config has {listing(classes)}. {hint}'
        yield Problem('label_range', detail.rstrip())


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _use_problems(
    objects: Sequence[Sequence[str]], num_files: int, diff_thr: int
) -> Iterator[Problem]:
    """Yields a problem if objects are in other units, or if mmrotate uses none of them."""
    easy = np.array([int(fields[9]) <= diff_thr for fields in objects], bool)
    corners = np.array([fields[:8] for fields in objects], float).reshape(-1, 8)
    x, y = corners[:, ::2], corners[:, 1::2]
    areas = abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    fractions = ((corners >= 0) & (corners <= 1)).all(axis=1)
    if objects and fractions.mean() >= _MOST:
        yield Problem(
            'box_units',
            f'has {fractions.sum():,} of {len(objects):,} objects within 0 to 1, as fractions of '
            'the image. DOTA labels are in pixels: multiply by width and height.',
        )
    elif not (easy & (areas > 0)).any():
        reasons = [
            f'{(~easy).sum():,} are above the difficulty {diff_thr} (`diff_thr`)' * (~easy).any(),
            f'{(areas == 0).sum():,} are of area 0' * (areas == 0).any(),
        ]
        why = f': {", ".join(filter(None, reasons))}' if objects else ''
        detail = f'has {len(objects):,} objects in {num_files:,} label files, none of which can be '
        yield Problem('no_objects', f'{detail}used{why}.')
