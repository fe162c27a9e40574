"""Finds the checkpoint of a work folder to resume from, and the best one."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import UserError
from .finding import find_checkpoint
from .reading import read_file

#: Names that show that a damaged file was a training checkpoint. ``best_*`` contains only weights,
#: and ``non_finite_*`` is for debugging.
_TRAINING_CHECKPOINT = re.compile(r'interrupted\.pth|(?!best_|non_finite_).*\d.*\.pth')


def merge_resume(config: Config, checkpoint: str | None) -> None:
    """Sets ``resume`` and ``load_from`` of a config.

    Args:
        config: The config to change, with its ``work_dir``. ``resume=True`` in it has the same
            effect as ``checkpoint='auto'``, or resumes from its ``load_from``.
        checkpoint: The checkpoint to resume from, ``auto`` for the latest one in the work folder,
            or None not to resume.

    Raises:
        UserError: If the checkpoint does not exist, or all checkpoints are damaged.
    """
    if checkpoint is None and config.get('resume'):
        checkpoint = config.get('load_from') or 'auto'
    if checkpoint == 'auto':
        checkpoint = find_latest(config.work_dir)
    elif checkpoint is not None:
        checkpoint = str(find_checkpoint(checkpoint))
    if checkpoint is not None:
        check_resumable(checkpoint)
    config.resume = checkpoint is not None
    if config.resume:
        config.load_from = checkpoint
    elif config.get('load_from'):
        config.load_from = str(find_checkpoint(config.load_from))


def find_latest(work_dir: str | Path) -> str | None:
    """Finds the last complete checkpoint of a training.

    This is the one named in the file ``last_checkpoint``. If that checkpoint is missing or damaged,
    it is the complete checkpoint in the same folder with most iterations, and a warning is logged.

    Args:
        work_dir: Work folder of the training.

    Returns:
        The path, or None if there is no checkpoint.

    Raises:
        UserError: If all checkpoints are damaged.
    """
    last, folder = _last_checkpoint(work_dir)
    if '://' in last:  # in remote storage
        return last
    paths: list[Path] = []
    faults: list[str] = []
    for path in _candidates(last, folder):
        fault = find_damage(path)
        if fault is None:
            if faults:
                print_log(f'{" ".join(faults)} Using {path}.', 'current', logging.WARNING)
            return str(path)
        paths.append(path)
        faults.append(fault)
    if any(path.exists() for path in paths):
        raise UserError(
            f'{" ".join(faults)} No complete checkpoint is left in {folder}. Give another '
            'checkpoint, or train from the start without --resume.'
        )
    if faults:
        print_log(f'{" ".join(faults)} There is no other.', 'current', logging.WARNING)
    return None


def find_best(work_dir: str | Path) -> str | None:
    """Finds the complete checkpoint with the best validation result.

    If there are several, for several metrics or trainings, it is the newest.

    Args:
        work_dir: Work folder of the training.

    Returns:
        The path, or None if there is no such checkpoint.
    """
    paths = _last_checkpoint(work_dir)[1].glob('best_*.pth')
    newest = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((str(path) for path in newest if find_damage(path) is None), None)


def is_resumable(content: Mapping[str, Any]) -> bool:
    """Returns whether a checkpoint has a training state, as written by mmengine's runner."""
    return _has_step(content) and 'optimizer' in content


def _has_step(content: Mapping[str, Any]) -> bool:
    meta = content.get('meta')
    return isinstance(meta, Mapping) and isinstance(meta.get('iter'), int)


def check_resumable(path: str | Path) -> None:
    """Checks that a training can resume from a file.

    Raises:
        UserError: If the file cannot be read or has no training state.
    """
    if Path(path).is_file() and not is_resumable(read_file(path)):
        raise UserError(
            f'A training cannot resume from {path}: it has no training state of an OpenMMLab '
            'runner, such as that of the optimizer. Give a checkpoint of a training (epoch_N.pth, '
            'iter_N.pth; best_*.pth contains only weights), or set `load_from` to start from these '
            'weights.'
        )


def _last_checkpoint(work_dir: str | Path) -> tuple[str, Path]:
    """Returns the checkpoint in ``last_checkpoint`` ('' if none), and the checkpoint folder."""
    note = Path(work_dir, 'last_checkpoint')
    last = note.read_text().strip() if note.is_file() else ''
    if last and Path(last).parent.is_dir():
        return last, Path(last).parent
    return last, Path(work_dir)  # no checkpoint yet, or the folder was moved


def _candidates(last: str, folder: Path) -> Iterator[Path]:
    """Yields the last checkpoint, and then the others in the order of their iterations."""
    if last:
        yield Path(last)
    others = [
        p for p in folder.glob('[!.]*.pth') if p != Path(last) and not p.name.startswith('best_')
    ]
    steps = {path: count for path in others if (count := _count_iterations(path)) is not None}
    yield from sorted(steps, key=lambda path: steps[path], reverse=True)


def _count_iterations(path: Path) -> int | None:
    """Returns the iterations of a checkpoint, -1 if it is damaged, None for other files."""
    try:
        content = read_file(path)
    except (UserError, OSError):
        return -1 if _TRAINING_CHECKPOINT.fullmatch(path.name) else None
    return content['meta']['iter'] if _has_step(content) else None


def find_damage(path: str | Path) -> str | None:
    """Checks all bytes of a file that ``torch.save`` wrote.

    Returns:
        A sentence that describes the damage, or None if the file is complete.
    """
    if Path(path).is_dir():  # checkpoints of DeepSpeed are not checked
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except FileNotFoundError:
        return f'{path} does not exist.'
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        return f'{path} is cut short or damaged ({error}).'
    return f'{path} is damaged ({part}).' if part else None
