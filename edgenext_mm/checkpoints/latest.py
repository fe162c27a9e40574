"""The checkpoint that an interrupted training goes on from."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log

from ..errors import UserError
from .reading import read_file

#: Checkpoints that can be resumed from: best and published ones hold weights alone.
_RESUMABLE = re.compile(r'interrupted\.pth|(?!best_).*_\d+\.pth')


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
    folder = Path(last).parent if last and Path(last).parent.is_dir() else Path(work_dir)
    found = [p for p in folder.glob('*.pth') if _RESUMABLE.fullmatch(p.name)]
    faults: list[str] = []
    for path in _candidates(last, found):
        fault = find_damage(path)
        if fault is None:
            if faults:
                print_log(f'{" ".join(faults)} Resuming from {path}.', 'current', logging.WARNING)
            return str(path)
        faults.append(fault)
    if found:
        raise UserError(
            f'{" ".join(faults)} No whole checkpoint is left to resume from; train anew without '
            '--resume, or give a checkpoint: --resume CHECKPOINT.'
        )
    if last:
        print_log(f'{" ".join(faults)} Training starts anew.', 'current', logging.WARNING)
    return None


def _candidates(last: str, found: list[Path]) -> Iterator[Path]:
    if last:
        yield Path(last)
    others = [path for path in found if path != Path(last)]
    yield from sorted(others, key=_count_steps, reverse=True)


def _count_steps(path: Path) -> int:
    try:
        return read_file(path)['meta']['iter']
    except (UserError, KeyError, TypeError, OSError):
        return -1


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
