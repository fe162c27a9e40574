"""What a training writes to its log about itself, for whoever looks for the reason of its end."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.runner import Runner

from ..errors import UserError

STARTED = 'Run started: '
FINISHED = 'Run finished.'
STOPPED = 'Run stopped '


@contextmanager
def logged_end(runner: Runner) -> Iterator[None]:
    """Logs which process runs the block, and how it ends.

    Python writes the traceback of an error to the terminal alone. This adds it to the log file, of
    whichever process it is.
    """
    process = dict(host=socket.gethostname(), pid=os.getpid(), command=sys.argv)
    runner.logger.info(STARTED + json.dumps(process))
    try:
        yield
    except BaseException as error:
        _append(runner, _tell(error))
        raise
    runner.logger.info(FINISHED)


def _tell(error: BaseException) -> str:
    reason = f'{STOPPED}on process {get_rank()} by {type(error).__name__}: {error}'
    if isinstance(error, (UserError, KeyboardInterrupt, SystemExit)):
        return reason
    return f'{reason}\n{"".join(traceback.format_exception(error))}'


def _append(runner: Runner, text: str) -> None:
    """Adds to the file alone, which mmengine opens for the first process only."""
    try:
        handler = logging.FileHandler(Path(runner.log_dir, f'{runner.timestamp}.log'))
    except OSError:
        return
    handler.setFormatter(
        logging.Formatter(
            '%(asctime)s - %(name)s - %(levelname)s - %(message)s', '%Y/%m/%d %H:%M:%S'
        )
    )
    handler.handle(logging.LogRecord('mmengine', logging.ERROR, '', 0, text, None, None))
    handler.close()
