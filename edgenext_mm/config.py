"""Reads config files."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_object_from_string

from .errors import UserError
from .requirements import TASK_LIBRARIES, require_task_library

#: Errors of a config's file whose messages need no name.
_PLAIN_ERRORS = (OSError, SyntaxError, ImportError, AssertionError)


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """The config in a file, with overriding options merged in.

    Raises:
        UserError: If the file is not there, is no config, or needs a library that is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f'There is no config file {path}. Give the path of one, for instance '
            'configs/classification/edgenext-xxsmall_digits.py.'
        )
    try:
        with _quiet_libraries(), _bases_by_module():
            config = Config.fromfile(path)
            _drop_own_scope(config._cfg_dict)
            config = with_type_names(config)
            import_task_library(config.get('default_scope'))
    except Exception as error:  # a config is code
        for scope in TASK_LIBRARIES:  # the base of another library, or a part that needs one
            if scope in _chain_of(error):
                require_task_library(scope)
        kind = '' if isinstance(error, _PLAIN_ERRORS) else f'{type(error).__name__}: '
        raise UserError(f'{path} cannot be read as a config: {kind}{error}') from error
    if options:
        config.merge_from_dict(options)
    require_task_library(config.get('default_scope', ''))
    return config


def import_task_library(scope: str | None) -> None:
    """Imports a task library with its data sets, if a config's scope is one."""
    if scope in TASK_LIBRARIES:
        with _quiet_libraries():
            importlib.import_module(f'{scope}.datasets')


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps what libraries print as they are imported out of stdout, which may be for JSON.

    mmengine's ``print_log`` heeds no level where it has no logger; what it says of OneDL, a data
    format that nobody here needs, is left out.
    """
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            yield
        finally:
            said = [line for line in output.getvalue().splitlines() if 'OneDL' not in line]
            print(*said, sep='\n', end='\n' if said else '', file=sys.stderr)


@contextlib.contextmanager
def _bases_by_module() -> Iterator[None]:
    """Lets mmengine find ``mmseg::...`` by the module: its table has the original distribution."""
    known = dict(MODULE2PACKAGE)
    MODULE2PACKAGE.update({module: module for module in TASK_LIBRARIES})
    try:
        yield
    finally:
        MODULE2PACKAGE.update(known)


def with_type_names(config: Config) -> Config:
    """A config with names in the place of classes, as mmengine itself writes them to files.

    Args:
        config: Classes are the types of configs with ``read_base()`` or imports. Where it has no
            ``default_scope``, it gets the task library of the model's class.

    Returns:
        The same config if there are no classes.
    """
    if not _has_classes(config._cfg_dict):
        return config
    named = _with_names(config._cfg_dict)
    if not named.get('default_scope') and 'model' in named:
        named['default_scope'] = _task_library_of(named['model']['type'])
    changed = Config(named, filename=config.filename, env_variables=config.env_variables)
    object.__setattr__(changed, '_imported_names', config._imported_names)
    return changed


def _has_classes(value: Any, key: str = '') -> bool:
    if isinstance(value, dict):  # `dict.items` imports nothing
        return any(_has_classes(inner, k) for k, inner in dict.items(value))
    if isinstance(value, (list, tuple)):
        return any(map(_has_classes, value))
    return key == 'type' and (callable(value) or isinstance(value, (LazyObject, LazyAttr)))


def _with_names(value: Any, key: str = '') -> Any:
    if isinstance(value, dict):
        return {k: _with_names(inner, k) for k, inner in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_names, value))
    if key != 'type' or not _has_classes(value, key):
        return value
    kind = value.build() if isinstance(value, (LazyObject, LazyAttr)) else value
    name = f'{kind.__module__}.{kind.__qualname__}'
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        return name if get_object_from_string(name) is kind else kind
    return kind  # of a script, or made by a function


def _task_library_of(kind: str | type) -> str | None:
    """The task library that a model's class is of, or the first of its bases that is of one."""
    bases = (get_object_from_string(kind) if isinstance(kind, str) else kind).__mro__
    modules = (base.__module__.partition('.')[0] for base in bases)
    return next((module for module in modules if module in TASK_LIBRARIES), None)


def _drop_own_scope(config: Any) -> None:
    """Of what is inherited as ``edgenext_mm::...``, mmengine would look for every part in ours.

    Our configs are written in the scope of their task's library.
    """
    if isinstance(config, dict):
        if config.get('_scope_') == 'edgenext_mm':
            del config['_scope_']
        for value in config.values():
            _drop_own_scope(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _drop_own_scope(value)


def _chain_of(error: BaseException | None) -> str:
    """The messages of an error and of those that led to it."""
    return f'{error} {_chain_of(error.__context__)}' if error else ''
