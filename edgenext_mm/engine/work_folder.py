"""The work folder of a config: where it is, and whose training it holds."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..registry import type_name

#: Settings that tell what was trained, by the part of the config in which they count.
_TELLING = {
    'model': ('type', 'arch', 'num_classes'),
    'train_dataloader': ('data_root', 'ann_file', 'data_prefix', 'classes'),
}


def work_folder(config: Config) -> Path:
    """The folder in which a training by a config leaves its checkpoints."""
    name = Path(config.filename).stem if config.filename else 'CONFIG'
    return Path(config.get('work_dir') or Path('work_dirs') / name)


def warn_of_other_training(config: Config) -> None:
    """Warns if the config's work folder holds a training of another config.

    Two configs of one file name share a folder, unless ``work_dir`` or ``--work-dir`` says
    otherwise. The copy of the config that a training leaves is parsed, not run.
    """
    folder = work_folder(config)
    copy = folder / Path(config.filename or 'CONFIG').name
    if not copy.is_file():
        return
    try:
        there = dict(_settings_in(copy))
    except (SyntaxError, ValueError, OSError):
        return
    here = {part: _telling(config.get(part), part) for part in _TELLING}
    differing = [
        f'{name}={value}'
        for part in _TELLING
        for name, value in there.get(part, here[part])
        if (name, value) not in here[part]
    ]
    if differing:
        print_log(
            f'{folder} holds a training by another config: {copy} has {", ".join(differing[:3])}, '
            f'unlike {config.filename}. Configs of one file name share the folder; give each its '
            'own with --work-dir or `work_dir`.',
            'current',
            logging.WARNING,
        )


def _telling(value: Any, part: str) -> list[tuple[str, str]]:
    """The settings of :data:`_TELLING` in a part of a config, wherever they are."""
    if isinstance(value, Mapping):
        return [
            pair
            for key, inner in value.items()
            for pair in (
                [(key, repr(_plain(inner)))] if key in _TELLING[part] else _telling(inner, part)
            )
        ]
    if isinstance(value, (list, tuple)):
        return [pair for inner in value for pair in _telling(inner, part)]
    return []


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type_name(value)


def _settings_in(path: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in _TELLING:
                yield name, _telling(_evaluate(node.value), name)


def _evaluate(node: ast.expr) -> Any:
    """The value of literals and of calls of ``dict``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        pairs = {k.arg: _evaluate(k.value) for k in node.keywords if k.arg is not None}
        spread = [_evaluate(k.value) for k in node.keywords if k.arg is None]
        return {**pairs, **{k: v for inner in spread for k, v in inner.items()}}
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(k): _evaluate(v)
            for k, v in zip(node.keys, node.values, strict=True)
            if k is not None
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_evaluate(inner) for inner in node.elts]
    return ast.literal_eval(node)
