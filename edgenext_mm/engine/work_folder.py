"""The work folder of a config."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..registry import type_name
from .config_text import read_settings

#: Settings that differ between trainings of different things, by top-level part of the config.
_COMPARED = {
    'model': ('type', 'arch', 'num_classes'),
    'train_dataloader': ('data_root', 'ann_file', 'data_prefix', 'classes'),
}


def work_folder(config: Config) -> Path:
    """Returns the folder to which a training with a config writes its checkpoints.

    Args:
        config: A full config.
    """
    name = Path(config.filename).stem if config.filename else 'CONFIG'
    return Path(config.get('work_dir') or Path('work_dirs') / name)


def warn_of_earlier_training(config: Config) -> None:
    """Logs a warning if a new training would mix its best checkpoints with those of another.

    Args:
        config: A full config.
    """
    folder = work_folder(config)
    earlier = sorted(folder.glob('best_*.pth'))
    if earlier and not config.get('resume'):
        print_log(
            f'{folder} holds {earlier[0].name} of an earlier training. The best checkpoints of '
            'both will lie side by side, and one with the same name is replaced. Continue that '
            'training with --resume, or give this one its own folder with --work-dir.',
            'current',
            logging.WARNING,
        )


def warn_of_other_training(config: Config) -> None:
    """Logs a warning if the work folder of a config holds a training with another config.

    Configs with the same file name share a folder unless ``work_dir`` or
    ``--work-dir`` is set. The copy of the config in the folder is parsed, not run.

    Args:
        config: A full config.
    """
    folder = work_folder(config)
    copy = folder / Path(config.filename or 'CONFIG').name
    if not copy.is_file():
        return
    found = read_settings(copy.read_text(encoding='utf-8'), _COMPARED)
    differing = [
        f'{name}={value}'
        for part, content in found.items()
        for name, value in _select(content, part)
        if (name, value) not in set(_select(config.get(part), part))
    ]
    if differing:
        print_log(
            f'{folder} holds a training by another config: {copy} has {", ".join(differing[:3])}, '
            f'unlike {config.filename}. Configs with the same file name share a work folder; give '
            'each its own with --work-dir or `work_dir`.',
            'current',
            logging.WARNING,
        )


def _select(value: Any, part: str) -> Iterator[tuple[str, str]]:
    """Yields the settings of :data:`_COMPARED` at any depth of a part of a config."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _COMPARED[part]:
                yield key, repr(_plain(inner))
            else:
                yield from _select(inner, part)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _select(inner, part)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type_name(value)
