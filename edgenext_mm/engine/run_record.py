"""A JSON record of each training: which process runs it, and how it ended."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from ..files import replacing
from .first_failure import is_lost_connection


@contextmanager
def recorded_run(runner: Runner) -> Iterator[None]:
    """Writes ``WORK_DIR/TIMESTAMP/run.json`` when a training starts and when it ends.

    Its ``state`` is ``running``, ``finished`` or ``stopped``; a stopped training has a ``reason``
    with the exception and its traceback. The process of rank 0 writes this file. Every other
    process writes ``run_rankN.json``, and only if it stops.

    Args:
        runner: The runner that trains inside the ``with`` block.
    """
    limits = runner.cfg.get('train_cfg') or {}
    record = dict(
        state='running',
        host=socket.gethostname(),
        pid=os.getpid(),
        process_start=process_start(os.getpid()),
        rank=runner.rank,
        world_size=runner.world_size,
        launcher=runner.launcher,
        command=sys.argv,
        config=str(Path(runner.cfg.filename).resolve()) if runner.cfg.filename else None,
        max_epochs=limits.get('max_epochs'),
        max_iters=limits.get('max_iters'),
        resumed_from=runner._load_from if runner._resume else None,
        start_time=time.time(),
    )
    if runner.rank == 0:
        _write(runner, record)
    try:
        yield
    except BaseException as error:
        try:
            _write(runner, record, state='stopped', reason=_describe(error))
        except BaseException as second_error:
            # If a data loading process is killed, the training may first see its broken connection.
            # PyTorch's SIGCHLD handler reports the kill, and can raise at any line, even here.
            _write(runner, record, state='stopped', reason=_describe(second_error))
            raise
        raise
    if runner.rank == 0:
        stopped = runner.message_hub.runtime_info.get('stopped_early')
        _write(runner, record, state='finished', **({'stopped_early': stopped} if stopped else {}))


def process_start(pid: int) -> str | None:
    """Returns when a process of this host started, in clock ticks since boot.

    Args:
        pid: The number of the process.

    Returns:
        The time, or None if there is no such process or no ``/proc``.
    """
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
    except OSError:
        return None


def _describe(error: BaseException) -> dict[str, Any]:
    return dict(
        type=type(error).__name__,
        message=str(error),
        lost_connection=is_lost_connection(error),
        traceback=''.join(traceback.format_exception(error)).splitlines(),
    )


def _write(runner: Runner, record: dict[str, Any], **changes: Any) -> None:
    if changes:
        checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
        changes.update(last_checkpoint=checkpoint, end_time=time.time())
    name = f'run_rank{runner.rank}.json' if runner.rank else 'run.json'
    try:
        with replacing(Path(runner.log_dir, name)) as temporary:
            temporary.write_text(json.dumps({**record, **changes}, indent=2) + '\n')
    except OSError as error:  # for example, the disk is full
        runner.logger.error(f'Could not write the record of this run: {error}')
