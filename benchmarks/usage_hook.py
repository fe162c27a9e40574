"""Measures what the processes of a training use: memory, file descriptors, shared memory, logs."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.runner import Runner

MIB = 2**20


def titled(title: str) -> Any:
    """Returns a dataclass field with the title that tables and figures use."""
    return field(metadata=dict(title=title))


@dataclass(frozen=True)
class Usage:
    """The resources that all processes of a training use at one moment.

    Attributes:
        main_rss: Resident memory of the main process in MiB.
        main_own: Its memory without files, in MiB. Pages that several processes share are divided
            among them, so that the sum over processes is what the training uses.
        workers_rss: Resident memory of all worker processes in MiB.
        workers_own: Their memory without files, in MiB; shared pages are divided.
        descriptors: Open files, pipes and sockets of all processes.
        shared: Use of /dev/shm by all processes of the machine, in MiB.
        logs: Size of the log files in the work folder in KiB.
    """

    main_rss: float = titled('main process, RSS, MiB')
    main_own: float = titled('main process, own memory, MiB')
    workers_rss: float = titled('workers, RSS, MiB')
    workers_own: float = titled('workers, own memory, MiB')
    descriptors: float = titled('file descriptors')
    shared: float = titled('/dev/shm, MiB')
    logs: float = titled('logs, KiB')


class Sample(NamedTuple):
    """The usage after a number of iterations."""

    iteration: int
    usage: Usage


def measure_usage(work_dir: str | os.PathLike[str]) -> Usage:
    """Measures this process and its children.

    Args:
        work_dir: The work folder of the training.
    """
    import psutil

    main = psutil.Process()
    main_rss, main_own = _memory(main.pid)
    descriptors, workers = main.num_fds(), []
    for process in main.children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # it may end at any time
            workers.append(_memory(process.pid))
            descriptors += process.num_fds()
    logs = (p for p in Path(work_dir).rglob('*') if p.suffix in ('.log', '.json'))
    return Usage(
        main_rss=main_rss,
        main_own=main_own,
        workers_rss=sum(rss for rss, _ in workers),
        workers_own=sum(own for _, own in workers),
        descriptors=descriptors,
        shared=shutil.disk_usage('/dev/shm').used / MIB,
        logs=sum(path.stat().st_size for path in logs) / 1024,
    )


def _memory(pid: int) -> tuple[float, float]:
    """Returns the resident memory of a process, and its share of memory without files, in MiB.

    Libraries are not included: their pages are divided among all programs that use them, so the
    share changes when other programs start or end.
    """
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, value in (line.split(':') for line in lines)}
    return kib['Rss'] / 1024, (kib['Pss_Anon'] + kib['Pss_Shmem']) / 1024


class UsageHook(Hook):
    """Measures the usage during a training.

    Args:
        interval: The number of iterations between two samples. Default: 20.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self.samples: list[Sample] = []

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Takes a sample if it is due."""
        if self.every_n_train_iters(runner, self.interval):
            self.samples.append(Sample(runner.iter + 1, measure_usage(runner.work_dir)))
