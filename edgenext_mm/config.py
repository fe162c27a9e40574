"""Reading of config files."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import Runner
from mmengine.utils import get_object_from_string

from .errors import UserError
from .placeholders import known_settings, with_placeholders_replaced
from .requirements import (
    TASK_LIBRARIES,
    import_task_library,
    quiet_libraries,
    require_task_library,
)

#: Errors in a config whose messages are clear without the name of the error.
_PLAIN_ERRORS = (OSError, SyntaxError, ImportError, AssertionError)
#: Endings of config files that mmengine reads.
_SUFFIXES = ('.py', '.yml', '.yaml', '.json')
#: Top-level settings that have an effect.
_SETTINGS = [
    *list(inspect.signature(Runner.__init__).parameters)[1:],
    *('auto_scale_lr', 'bad_data', 'checks', 'custom_imports', 'data_preparation'),
    *('class_balance', 'early_stopping', 'find_unused_parameters', 'loss_watch'),
    *('model_wrapper_cfg', 'runner_type', 'val_loss'),
]
#: Settings that must be dicts.
_DICTS = [
    *('model', 'optim_wrapper', 'default_hooks', 'env_cfg', 'data_preprocessor'),
    *(f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('dataloader', 'cfg')),
]


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file.

    Warns about top-level settings that seem to be misspelt. Placeholders are replaced
    (:mod:`~edgenext_mm.placeholders`).

    Args:
        path: The config file.
        options: Settings that override those in the file, with dotted keys such as
            ``optim_wrapper.optimizer.lr``. Default: none.

    Raises:
        UserError: If the file does not exist, is not a valid config, or needs a library that is
            not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f'The config file {path} does not exist. Give the path of a config, for example '
            'configs/classification/edgenext-xxsmall_digits.py.'
        )
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f'{path} is not a config: its name does not end with {", ".join(_SUFFIXES)}. Give the '
            'config first, then a checkpoint or an exported file.'
        )
    try:
        with quiet_libraries(), _bases_by_module():
            config = Config.fromfile(path)
            drop_own_scope(config)
            config = with_type_names(config)
            import_task_library(config.get('default_scope'))
    except Exception as error:  # a config is code
        for scope in TASK_LIBRARIES:  # a base or a part of a library that is not installed
            if scope in _chain_of(error):
                require_task_library(scope)
        kind = '' if isinstance(error, _PLAIN_ERRORS) else f'{type(error).__name__}: '
        raise UserError(f'{path} cannot be read as a config: {kind}{error}') from error
    if options:
        config.merge_from_dict(options)
    require_task_library(config.get('default_scope', ''))
    _check_settings(config, path)
    return with_placeholders_replaced(config)


def _check_settings(config: Config, path: Path) -> None:
    settings = [*_SETTINGS, *known_settings(config)]
    for key in config:
        near = difflib.get_close_matches(key, settings, n=1, cutoff=0.85)
        # A number or "_" at the end is the user's own: train_cfg_2.
        if near and key not in settings and key.rstrip('_0123456789') not in _SETTINGS:
            warnings.warn(
                f'{path}: the setting `{key}` has no effect. Did you mean `{near[0]}`?',
                stacklevel=3,
            )
    for key in _DICTS:
        if not isinstance(config.get(key) or {}, dict):
            raise UserError(f'{path}: `{key}` must be a dict, but is {config[key]!r}.')


@contextlib.contextmanager
def _bases_by_module() -> Iterator[None]:
    """Lets mmengine find the bases ``mmseg::...`` of onedl-mmsegmentation.

    mmengine has a table of distributions, with ``mmsegmentation`` for ``mmseg``. It finds a module
    in its place as well (https://github.com/VBTI-development/onedl-mmengine).
    """
    distribution = MODULE2PACKAGE['mmseg']
    MODULE2PACKAGE['mmseg'] = 'mmseg'
    try:
        yield
    finally:
        MODULE2PACKAGE['mmseg'] = distribution


def with_type_names(config: Config) -> Config:
    """Replaces classes in a config by their names, as mmengine does when it writes a config.

    Args:
        config: A config. Those with ``read_base()`` or imports have classes as types. If there are
            classes but no ``default_scope``, it becomes the task library of the model's class.

    Returns:
        A new config, or the same one if it has no classes.
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
    return kind  # from a script, or made by a function


def _task_library_of(kind: str | type) -> str | None:
    """The task library of a model's class, or of the first of its bases that has one."""
    bases = (get_object_from_string(kind) if isinstance(kind, str) else kind).__mro__
    modules = (base.__module__.partition('.')[0] for base in bases)
    return next((module for module in modules if module in TASK_LIBRARIES), None)


def drop_own_scope(config: Config) -> None:
    """Removes ``_scope_`` from what is inherited as ``edgenext_mm::...``.

    With it, mmengine would look for all parts in our scope, but our configs are written in the
    scope of their task library.
    """
    _drop_scope(config._cfg_dict)


def _drop_scope(value: Any) -> None:
    if isinstance(value, dict):
        if dict.get(value, '_scope_') == 'edgenext_mm':
            del value['_scope_']
        for inner in dict.values(value):
            _drop_scope(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _drop_scope(inner)


def _chain_of(error: BaseException | None) -> str:
    """The messages of an error and of the errors that led to it."""
    return f'{error} {_chain_of(error.__context__)}' if error else ''
