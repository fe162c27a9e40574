"""A training that is told to stop saves what it has."""

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

#: What SLURM sends at the end of the time, or ahead of it (``--signal=USR1@120``).
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
#: The exit status of a training that can go on with ``--resume``: 75, "try again later".
EXIT_STATUS = os.EX_TEMPFAIL


@HOOKS.register_module()
class InterruptionHook(HoldingHook):
    """On SIGTERM or SIGUSR1, saves a checkpoint after the step and exits with status 75.

    If one process of several is told, all of them save after the same step. A validation is
    finished first.
    """

    priority = 'LOWEST'  # when all others have done their part of the step

    def __init__(self) -> None:
        self._received: str | None = None
        self._handlers: dict[int, Any] = {}
        self._group: Any = None

    def before_train(self, runner: Runner) -> None:
        """Takes over the signals."""
        self._received = None
        if runner.world_size > 1:  # on the CPU, so that no step waits for a GPU
            self._group = dist.new_group(backend='gloo')
        if threading.current_thread() is not threading.main_thread():
            return  # Python gives signals to the main thread only
        for number in SIGNALS:
            if signal.getsignal(number) is not None:  # Python cannot restore a handler from C
                self._handlers.setdefault(number, signal.signal(number, self._note))

    def _note(self, number: int, _: Any) -> None:
        self._received = signal.Signals(number).name

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stops after a step, if told."""
        if self._is_told(runner):
            self._stop(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val(self, runner: Runner) -> None:
        """Stops after a validation, if told."""
        if self._handlers and self._is_told(runner):
            self._stop(runner, dict(epoch=runner.epoch, iter=runner.iter))

    def release(self) -> None:
        """Restores the signal handlers."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _is_told(self, runner: Runner) -> bool:
        """Whether any process is."""
        if self._group is None:
            return self._received is not None
        told = torch.tensor(self._received is not None, dtype=torch.int)
        dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self._group)
        return bool(told)

    def _stop(self, runner: Runner, meta: dict[str, int]) -> None:
        place = f'epoch {meta["epoch"]}, iteration {meta["iter"]}'
        try:
            write_checkpoint(runner, runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
            runner.logger.warning(
                f'Told to stop ({self._received or "another process"}); saved {INTERRUPTED} at '
                f'{place}. The same command with --resume goes on.'
            )
        except OSError as error:
            runner.logger.error(f'Told to stop; nothing could be saved at {place}: {error}')
        if self._group is not None:  # a launcher ends the others when the first one is gone
            dist.barrier(group=self._group)
        sys.exit(EXIT_STATUS)


def outlive_signals(dataloader: dict[str, Any], seed: int | None) -> None:
    """Lets the worker processes of a data loader go on when they get a signal for the training.

    Launchers send signals to them, too, and their end would be an error.

    Args:
        dataloader: The config of the loader; changed.
        seed: As mmengine's ``Runner.build_dataloader`` gets it.
    """
    initialise: Any = dataloader.pop('worker_init_fn', None)
    if initialise is not None:
        initialise = dict(initialise)
        kind = initialise.pop('type')
        kind = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
        initialise = partial(kind, **initialise)
    elif seed is not None:
        initialise = partial(
            default_worker_init_fn,
            num_workers=dataloader.get('num_workers', 0),
            rank=get_rank(),
            seed=seed,
            disable_subprocess_warning=dataloader.pop('disable_subprocess_warning', False),
        )
    dataloader['worker_init_fn'] = dict(type=_start_worker, initialise=initialise)


def _start_worker(worker_id: int, initialise: Callable[[int], None] | None) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_obey_parent_only, daemon=True).start()
    if initialise is not None:
        initialise(worker_id)


def _obey_parent_only() -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid != os.getppid():
        pass
    os._exit(0)
