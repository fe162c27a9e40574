"""The checkpoints of a work folder: the latest, to go on from, and the best."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..errors import UserError
from .reading import read_file

#: Names under which a damaged file counts as a lost checkpoint. ``best_*`` holds weights alone,
#: ``non_finite_*`` what reproduces a fault.
_NUMBERED = re.compile(r'interrupted\.pth|(?!best_|non_finite_).*\d.*\.pth')


def find_latest(work_dir: str | Path) -> str | None:
    """The last whole checkpoint of a training.

    That is the one that ``last_checkpoint`` names. If it is gone or damaged, it is the whole one
    of the same folder that has come furthest, with a warning.

    Args:
        work_dir: Of the training.

    Returns:
        Its path, or None if the training has left none yet.

    Raises:
        UserError: If there are checkpoints, and all are damaged.
    """
    note = Path(work_dir, 'last_checkpoint')
    last = note.read_text().strip() if note.is_file() else ''
    if '://' in last:  # on another kind of storage
        return last
    folder = _folder(work_dir, last)
    faults: list[str] = []
    for path in _candidates(last, folder):
        fault = find_damage(path)
        if fault is None:
            if faults:
                print_log(f'{" ".join(faults)} Taking {path}.', 'current', logging.WARNING)
            return str(path)
        faults.append(fault)
    if any(path.exists() for path in _candidates(last, folder)):
        raise UserError(
            f'{" ".join(faults)} No whole checkpoint is left in {folder}. Give another one, or '
            'train anew without --resume.'
        )
    if last:
        print_log(f'{" ".join(faults)} No other one is there.', 'current', logging.WARNING)
    return None


def find_best(work_dir: str | Path) -> str | None:
    """The whole checkpoint that scored best in a training's validations.

    Of several, by several metrics or trainings, it is the one that was written last.

    Args:
        work_dir: Of the training.

    Returns:
        Its path, or None if there is none.
    """
    note = Path(work_dir, 'last_checkpoint')
    last = note.read_text().strip() if note.is_file() else ''
    paths = _folder(work_dir, last).glob('best_*.pth')
    newest = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((str(path) for path in newest if find_damage(path) is None), None)


def is_resumable(content: Mapping[str, Any]) -> bool:
    """Whether a file says how far a training came, as those that mmengine's runner writes."""
    meta = content.get('meta')
    return isinstance(meta, Mapping) and isinstance(meta.get('iter'), int)


def check_resumable(path: str | Path) -> None:
    """Makes sure that a training can go on from a file.

    Raises:
        UserError: If it cannot be read, or holds something else.
    """
    if Path(path).is_file() and not is_resumable(read_file(path)):
        raise UserError(
            f'A training cannot go on from {path}: it is no checkpoint of a training by '
            "OpenMMLab's runner. Give one that it has saved (epoch_N.pth, iter_N.pth), or set "
            '`load_from` to start from these weights.'
        )


def _folder(work_dir: str | Path, last: str) -> Path:
    """Where the checkpoints are: beside the last one, unless the folder was moved."""
    return Path(last).parent if last and Path(last).parent.is_dir() else Path(work_dir)


def _candidates(last: str, folder: Path) -> Iterator[Path]:
    if last:
        yield Path(last)
    others = [
        p for p in folder.glob('[!.]*.pth') if p != Path(last) and not p.name.startswith('best_')
    ]
    steps = {path: count for path in others if (count := _count_steps(path)) is not None}
    yield from sorted(steps, key=lambda path: steps[path], reverse=True)


def _count_steps(path: Path) -> int | None:
    """How many iterations a checkpoint has behind it: -1 for a damaged one, None for no one."""
    try:
        content = read_file(path)
    except (UserError, OSError):
        return -1 if _NUMBERED.fullmatch(path.name) else None
    return content['meta']['iter'] if is_resumable(content) else None


def find_damage(path: str | Path) -> str | None:
    """What is wrong with a file that ``torch.save`` wrote: every byte of it is checked.

    Returns:
        A sentence, or None if the file is whole.
    """
    if Path(path).is_dir():  # deepspeed's; not looked into
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except FileNotFoundError:
        return f'{path} is not there.'
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        return f'{path} is cut short or damaged ({error}).'
    return f'{path} is damaged ({part}).' if part else None
