"""What a training writes to its log about itself, for whoever looks for the reason of its end."""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
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
        try:
            _append(runner, _tell(error))
        except BaseException as late:  # raised by a signal's handler meanwhile, see below
            _append(runner, _tell(late))
            raise
        raise
    runner.logger.info(FINISHED)


def _tell(error: BaseException) -> str:
    reason = f'{STOPPED}on process {get_rank()} by {type(error).__name__}: {error}'
    told = isinstance(error, (KeyboardInterrupt, SystemExit))
    if told or (isinstance(error, UserError) and error.__cause__ is None):
        return reason
    return f'{reason}\n{"".join(traceback.format_exception(error))}'


def _append(runner: Runner, text: str) -> None:
    """Adds to the file alone, which mmengine opens for the first process only.

    Without the handlers of logging, which print what is raised within them and go on. One thing can
    be raised here: a data loading process that is killed may show first by its broken connection,
    and as killed only when PyTorch's handler of SIGCHLD comes to it, which raises wherever Python
    is.
    """
    line = f'{datetime.now():%Y/%m/%d %H:%M:%S} - mmengine - ERROR - {text}\n'
    try:
        with open(Path(runner.log_dir, f'{runner.timestamp}.log'), 'a') as file:
            file.write(line)
    except OSError:  # the disk is full, say: the error itself is worth more
        return
