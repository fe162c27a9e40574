"""What the command line tools share: options, and how they fail."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from ..errors import UserError
from ..requirements import TASK_LIBRARIES, require_task_library


def reports_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Makes a tool report a :class:`UserError` in one paragraph and exit with status 1."""

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
        except UserError as error:
            sys.exit(f'error: {error}')

    return wrapper


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows a tool's docstring, with its examples, as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``config`` and OpenMMLab's ``--cfg-options``."""
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override the config, e.g. train_dataloader.batch_size=32',
    )


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--work-dir``, ``--amp`` and ``--launcher``, with what launchers add themselves."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG_NAME)'
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started (default: none)',
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


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
        # Importing the libraries' data sets prints to stdout, which may be for JSON: mmengine's
        # print_log heeds no level where it has no logger.
        with contextlib.redirect_stdout(sys.stderr):
            config = Config.fromfile(path)
            if config.get('default_scope') in TASK_LIBRARIES:
                importlib.import_module(f'{config.default_scope}.datasets')
    except (OSError, SyntaxError, ImportError, AssertionError) as error:
        for scope in TASK_LIBRARIES:  # the base of another library, or a part that needs one
            if scope in _chain_of(error):
                require_task_library(scope)
        raise UserError(f'{path} cannot be read as a config: {error}') from error
    _drop_own_scope(config._cfg_dict)
    if options:
        config.merge_from_dict(options)
    require_task_library(config.get('default_scope', ''))
    return config


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
