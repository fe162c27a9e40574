"""The model zoo: every shipped config by name, and where published weights of it are.

The metafiles beside the configs list it all, in OpenMMLab's format, for ``mim`` as for us. An entry
of ours adds ``Mirrors``, further URLs of the same weights in any published format.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import UserError
from .download import fetch

_ROOTS = (
    Path(__file__).parents[1] / '.mim' / 'configs',  # installed
    Path(__file__).parents[2] / 'configs',  # a clone
)
CONFIG_ROOT = next((root for root in _ROOTS if root.is_dir()), _ROOTS[0]).resolve()
#: Tasks, by the folder of their configs.
TASKS = ('classification', 'detection', 'segmentation', 'rotated_detection')


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: That of its config, or one that tells the source of the weights.
        task: One of :data:`TASKS`.
        config: Path of its config.
        sources: URLs of its weights, in the order in which they are tried.
    """

    name: str
    task: str
    config: Path
    sources: tuple[str, ...] = ()


@functools.cache
def entries() -> dict[str, Entry]:
    """All models of the zoo, by name."""
    return {
        model['Name']: Entry(
            model['Name'],
            path.parent.name,
            CONFIG_ROOT.parent / model['Config'],
            tuple(filter(None, [model.get('Weights'), *model.get('Mirrors', ())])),
        )
        for path in sorted(CONFIG_ROOT.glob('*/metafile.yml'))
        for model in yaml.safe_load(path.read_text())['Models']
    }


def list_models(task: str | None = None, pattern: str = '*', pretrained: bool = False) -> list[str]:
    """Names of models of the zoo.

    Args:
        task: One of :data:`TASKS`. Default: all.
        pattern: With ``*`` and ``?``, as in file names. Default: all.
        pretrained: Whether only models with published weights are wanted. Default: False.

    Raises:
        UserError: If there is no such task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f'There is no task {task!r}. Choose from {", ".join(TASKS)}.')
    return sorted(
        entry.name
        for entry in entries().values()
        if task in (None, entry.task)
        and fnmatch.fnmatch(entry.name, pattern)
        and (entry.sources or not pretrained)
    )


def find_model(name: str) -> Entry:
    """The model of that name.

    Raises:
        UserError: If there is none; names those whose names are near.
    """
    if name in entries():
        return entries()[name]
    near = difflib.get_close_matches(name, entries(), n=5, cutoff=0)
    raise UserError(
        f'There is no model {name!r} in the zoo. Near it: {", ".join(near)}. All: '
        '`edgenext_mm.list_models()`.'
    )


def find_weights(name: str) -> Path:
    """The file of a model's published weights, downloaded unless it is in the cache.

    Raises:
        UserError: If there is no such model, nobody has published weights of it, or no source
            delivers them.
    """
    entry = find_model(name)
    if not entry.sources:
        config = '/'.join(entry.config.parts[-3:])
        raise UserError(
            f'{name} has no published weights: nobody has trained it yet. Train it with `python '
            f'tools/train.py {config}`, or give a checkpoint of your own.'
        )
    return fetch(entry.sources)


def find_config(name: str | Path) -> Path:
    """The config file of a path, of a shipped config's name without ``.py``, or of a zoo model.

    Raises:
        UserError: If there is no such config; names those there are.
    """
    if Path(name).is_file():
        return Path(name)
    if str(name) in entries():
        return entries()[str(name)].config
    shipped = {p.stem: p for p in CONFIG_ROOT.glob('[!_]*/**/*.py')}
    if str(name) in shipped:
        return shipped[str(name)]
    raise UserError(
        f'{name!r} is neither a config file nor the name of a shipped config or a model of the '
        f'zoo. There are: {", ".join(sorted({*shipped, *entries()})) or "none"}.'
    )
