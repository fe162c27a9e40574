"""A hook that kills a training at a chosen moment."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from edgenext_mm.registry import HOOKS

#: Where a process kills itself, and how often it comes by there at most before it does.
PHASES = {'optimiser step': 6, 'validation': 2, 'swapped weights': 1, 'checkpoint writing': 3}
#: How the environment tells a training where to kill itself: ``PHASE:TIMES``.
KILL = 'EDGENEXT_MM_KILL'


@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process with SIGKILL where the environment says, if it does."""

    priority = 'LOWEST'  # after the moving average's weights were put in the model's place

    def __init__(self) -> None:
        self.phase, _, times = os.environ.get(KILL, '').partition(':')
        self.left = int(times or 0)

    def _pass(self, phase: str) -> bool:
        """Whether it is time."""
        self.left -= phase == self.phase
        return phase == self.phase and self.left == 0

    def _come_by(self, phase: str) -> None:
        if self._pass(phase):
            os.kill(os.getpid(), signal.SIGKILL)

    def before_train(self, runner: Runner) -> None:
        """Waits between the backward pass and the optimiser."""
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: self._come_by('optimiser step')
        )

    def before_val_epoch(self, runner: Runner) -> None:
        """While the model holds the averaged weights."""
        self._come_by('swapped weights')

    def after_val_iter(self, *_: Any, **__: Any) -> None:
        """In the midst of a validation."""
        self._come_by('validation')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Waits for a half-written file."""
        if self._pass('checkpoint writing'):
            threading.Thread(target=_kill_once_written_to, args=[runner.work_dir]).start()


def _kill_once_written_to(folder: str) -> None:
    while True:
        for path in Path(folder).glob('.*.pth'):
            if path.stat().st_size > 0:
                os.kill(os.getpid(), signal.SIGKILL)
