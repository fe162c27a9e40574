"""The model zoo: configs by name, with the URLs of published weights.

It is read from the metafiles beside the configs, which have OpenMMLab's format and also serve
``mim``. The key ``Sources``, which is our addition, lists all files with the same weights, with
what is known about them.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import UserError
from .download import Source, fetch

_ROOTS = (
    Path(__file__).parents[1] / '.mim' / 'configs',  # installed
    Path(__file__).parents[2] / 'configs',  # a clone
)
CONFIG_ROOT = next((root for root in _ROOTS if root.is_dir()), _ROOTS[0]).resolve()
#: Tasks, which are also the folders of their configs.
TASKS = ('classification', 'detection', 'segmentation', 'rotated_detection')


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: Name of the model.
        task: One of :data:`TASKS`.
        config: Path of the config.
        sources: Files with the weights in the order in which they are tried. Default: none.
    """

    name: str
    task: str
    config: Path
    sources: tuple[Source, ...] = ()


@functools.cache
def entries() -> dict[str, Entry]:
    """Returns all models of the zoo by name."""
    return {
        model['Name']: Entry(
            model['Name'],
            path.parent.name,
            CONFIG_ROOT.parent / model['Config'],
            tuple(
                Source(source['URL'], source.get('SHA256'), source.get('Size'))
                for source in model.get('Sources', ())
            ),
        )
        for path in sorted(CONFIG_ROOT.glob('*/metafile.yml'))
        for model in yaml.safe_load(path.read_text())['Models']
    }


def list_models(task: str | None = None, pattern: str = '*', pretrained: bool = False) -> list[str]:
    """Lists the names of models in the zoo.

    Args:
        task: Only models for this task, one of :data:`TASKS`. Default: all.
        pattern: Only names that match, with the wildcards ``*`` and ``?``. Default: all.
        pretrained: Whether to list only models with published weights. Default: False.

    Raises:
        UserError: If the task is unknown.
    """
    if task is not None and task not in TASKS:
        raise UserError(f'Unknown task {task!r}. Choose one of {", ".join(TASKS)}.')
    return sorted(
        entry.name
        for entry in entries().values()
        if task in (None, entry.task)
        and fnmatch.fnmatch(entry.name, pattern)
        and (entry.sources or not pretrained)
    )


def find_model(name: str) -> Entry:
    """Returns the model with this name.

    Raises:
        UserError: If there is none; the message has similar names.
    """
    if name in entries():
        return entries()[name]
    similar = difflib.get_close_matches(name, entries(), n=5, cutoff=0)
    raise UserError(
        f'There is no model {name!r} in the zoo. Similar names: {", ".join(similar)}. '
        'edgenext_mm.list_models() lists all.'
    )


def find_weights(name: str) -> Path:
    """Returns the file with the weights of a model, and downloads it if it is not in the cache.

    Raises:
        UserError: If the model is unknown, has no published weights, or the download fails.
    """
    entry = find_model(name)
    if not entry.sources:
        config = '/'.join(entry.config.parts[-3:])
        raise UserError(
            f'{name} has no published weights. Train it with `python tools/train.py {config}`, or '
            'give another checkpoint.'
        )
    return fetch(entry.sources)


def find_config(name: str | Path) -> Path:
    """Returns the config file with this path or name.

    Args:
        name: Path, name of a config of this package without ``.py``, or name of a zoo model.

    Raises:
        UserError: If there is none; the message lists the names.
    """
    if Path(name).is_file():
        return Path(name)
    if str(name) in entries():
        return entries()[str(name)].config
    shipped = {p.stem: p for p in CONFIG_ROOT.glob('[!_]*/**/*.py')}
    if str(name) in shipped:
        return shipped[str(name)]
    raise UserError(
        f'{name!r} is neither a config file nor the name of a config or model of this package. '
        f'Names: {", ".join(sorted({*shipped, *entries()})) or "none"}.'
    )
