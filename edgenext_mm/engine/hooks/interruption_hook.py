"""Saves a checkpoint when a training is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dataset import worker_init_fn as default_worker_init_fn
from mmengine.dist import get_rank
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner

from ...registry import HOOKS
from .checkpoint_hook import INTERRUPTED, write_checkpoint
from .holding_hook import HoldingHook

#: SLURM sends these at the time limit, or before it (``--signal=USR1@120``).
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
#: The exit status of a training that can be resumed: 75, "temporary failure".
EXIT_STATUS = os.EX_TEMPFAIL


@HOOKS.register_module()
class InterruptionHook(HoldingHook):
    """On SIGTERM or SIGUSR1, saves a checkpoint after the step and exits with status 75.

    If one of several processes gets a signal, all of them save after the same step. A running
    validation is finished first.
    """

    priority = 'LOWEST'  # after all other hooks of the step

    def __init__(self) -> None:
        self._received: str | None = None
        self._handlers: dict[int, Any] = {}
        self._group: Any = None

    def before_train(self, runner: Runner) -> None:
        """Installs the signal handlers."""
        self._received = None
        if runner.world_size > 1:  # on the CPU, so that no step waits for a GPU
            self._group = dist.new_group(backend='gloo')
        if threading.current_thread() is not threading.main_thread():
            return  # Python handles signals in the main thread only
        for number in SIGNALS:
            if signal.getsignal(number) is not None:  # Python cannot restore a handler from C
                self._handlers.setdefault(number, signal.signal(number, self._receive))

    def _receive(self, number: int, _: Any) -> None:
        self._received = signal.Signals(number).name

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stops after the step if a signal has arrived."""
        if self._must_stop():
            self._stop(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val(self, runner: Runner) -> None:
        """Stops after the validation if a signal has arrived."""
        if self._handlers and self._must_stop():
            self._stop(runner, dict(epoch=runner.epoch, iter=runner.iter))

    def release(self) -> None:
        """Restores the signal handlers."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _must_stop(self) -> bool:
        """Returns whether any process has received a signal."""
        if self._group is None:
            return self._received is not None
        received = torch.tensor(self._received is not None, dtype=torch.int)
        dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group)
        return bool(received)

    def _stop(self, runner: Runner, meta: dict[str, int]) -> None:
        position = f'epoch {meta["epoch"]}, iteration {meta["iter"]}'
        try:
            write_checkpoint(runner, runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
            runner.logger.warning(
                f'Told to stop ({self._received or "another process"}): saved {INTERRUPTED} at '
                f'{position}. Run the same command with --resume to continue.'
            )
        except OSError as error:
            runner.logger.error(f'Told to stop, but could not save at {position}: {error}')
        if self._group is not None:  # a launcher ends the others when the first process ends
            dist.barrier(group=self._group)
        sys.exit(EXIT_STATUS)


def ignore_signals_in_workers(dataloader: dict[str, Any], seed: int | None) -> None:
    """Makes the worker processes of a data loader ignore signals that are meant for the training.

    Launchers send signals to all processes, and a training fails if a worker ends.

    Args:
        dataloader: The config of the data loader. It is changed.
        seed: The seed of ``Runner.build_dataloader``.
    """
    initialize: Any = dataloader.pop('worker_init_fn', None)
    if initialize is not None:
        initialize = dict(initialize)
        kind = initialize.pop('type')
        kind = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
        initialize = partial(kind, **initialize)
    elif seed is not None:
        initialize = partial(
            default_worker_init_fn,
            num_workers=dataloader.get('num_workers', 0),
            rank=get_rank(),
            seed=seed,
            disable_subprocess_warning=dataloader.pop('disable_subprocess_warning', False),
        )
    dataloader['worker_init_fn'] = dict(type=_start_worker, initialize=initialize)


def _start_worker(worker_id: int, initialize: Callable[[int], None] | None) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_exit_on_signal_of_parent, daemon=True).start()
    if initialize is not None:
        initialize(worker_id)


def _exit_on_signal_of_parent() -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid != os.getppid():
        pass
    os._exit(0)
