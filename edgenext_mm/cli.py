"""Options and error handling of the command line tools."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction

from .errors import UserError


def reports_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Decorates the main function of a tool to report a :class:`UserError` without traceback.

    The tool then exits with status 1; after Ctrl-C with status 130.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
        except UserError as error:
            sys.exit(f'error: {error}')
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            sys.exit(130)

    return wrapper


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser whose help shows the docstring of a tool with its line breaks."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds the argument ``config`` and OpenMMLab's option ``--cfg-options``."""
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override the config, e.g. train_dataloader.batch_size=32',
    )


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--work-dir``, ``--amp``, ``--launcher``, and the option that launchers add."""
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


def merge_runner_args(config: Config, args: argparse.Namespace) -> None:
    """Applies the options of :func:`add_runner_options` to a config, except ``--amp``.

    Raises:
        UserError: If the config has no model.
    """
    if 'model' not in config:
        raise UserError(
            f'{args.config} has no `model`. Inherit a config that has one, for example with '
            "`_base_ = 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py'`."
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config.launcher = args.launcher
    # Priority: command line, config, name of the config.
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
