"""What a training holds on to: memory, file descriptors, shared memory, logs."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

MIB = 2**20


def titled(title: str) -> Any:
    """A field of a dataclass with what tables and pictures call it."""
    return field(metadata=dict(title=title))


@dataclass(frozen=True)
class Usage:
    """What the processes of a training hold at one moment; memory in MiB.

    Attributes:
        main_rss: Resident memory of the main process.
        main_own: What of it is no file, with pages that processes share divided among them, so
            that the sum over all processes is what the training takes.
        workers_rss: Resident memory, summed over the worker processes.
        workers_own: What of it is no file, shared pages divided.
        descriptors: Open files, pipes and sockets of all processes.
        shared: What lies in /dev/shm, of whatever process on the machine.
        logs: KiB of log files in the work folder.
    """

    main_rss: float = titled('main process, RSS, MiB')
    main_own: float = titled('main process, own memory, MiB')
    workers_rss: float = titled('workers, RSS, MiB')
    workers_own: float = titled('workers, own memory, MiB')
    descriptors: float = titled('file descriptors')
    shared: float = titled('/dev/shm, MiB')
    logs: float = titled('logs, KiB')


@dataclass(frozen=True)
class Sample:
    """Usage after an iteration.

    Attributes:
        iteration: Iterations done.
        epoch: The epoch that it belongs to, from 0.
        seconds: Since the first sample.
        eta: Seconds to the end, as the log has it.
        usage: What the processes hold.
    """

    iteration: int
    epoch: int
    seconds: float
    eta: float
    usage: Usage


def measure_usage(work_dir: str | os.PathLike[str]) -> Usage:
    """What this process and its children hold now."""
    import psutil

    main = psutil.Process()
    main_rss, main_own = _memory(main.pid)
    descriptors, workers = main.num_fds(), []
    for process in main.children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # it may end just now
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
    """Resident memory of a process, and its share of what is no file, in MiB.

    Libraries do not count as its own: their pages are divided by all programs that run with them,
    and so change when others start and end.
    """
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, value in (line.split(':') for line in lines)}
    return kib['Rss'] / 1024, (kib['Pss_Anon'] + kib['Pss_Shmem']) / 1024


class UsageHook(Hook):
    """Samples what a training holds on to.

    Args:
        interval: Iterations between two samples. Default: 20.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self.samples: list[Sample] = []
        self.end = 0.0

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Called after each iteration."""
        if self.every_n_train_iters(runner, self.interval):
            if not self.samples:
                self.start = time.perf_counter()
            self.samples.append(
                Sample(
                    runner.iter + 1,
                    runner.epoch,
                    time.perf_counter() - self.start,
                    runner.message_hub.get_info('eta'),
                    measure_usage(runner.work_dir),
                )
            )

    def after_train(self, runner: Runner) -> None:
        """Called at the end."""
        self.end = time.perf_counter() - self.start
