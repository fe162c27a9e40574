"""A hook that kills a training in a chosen phase."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from edgenext_mm.registry import HOOKS

#: The phases in which a training can be killed, and the highest number of the pass that is killed.
PHASES = {'optimizer step': 6, 'validation': 2, 'swapped weights': 1, 'checkpoint writing': 3}
#: The environment variable that selects the phase and the pass: ``PHASE:PASS``.
KILL = 'EDGENEXT_MM_KILL'


@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process with SIGKILL in the phase that the environment selects, if any."""

    priority = 'LOWEST'  # after EMAHook has swapped the weights

    def __init__(self) -> None:
        self.phase, _, number = os.environ.get(KILL, '').partition(':')
        self.left = int(number or 0)

    def _is_due(self, phase: str) -> bool:
        self.left -= phase == self.phase
        return phase == self.phase and self.left == 0

    def _kill_if_due(self, phase: str) -> None:
        if self._is_due(phase):
            os.kill(os.getpid(), signal.SIGKILL)

    def before_train(self, runner: Runner) -> None:
        """Prepares a kill between the backward pass and the optimizer step."""
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: self._kill_if_due('optimizer step')
        )

    def before_val_epoch(self, runner: Runner) -> None:
        """Kills while the model holds the averaged weights."""
        self._kill_if_due('swapped weights')

    def after_val_iter(self, *_: Any, **__: Any) -> None:
        """Kills during a validation."""
        self._kill_if_due('validation')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Prepares a kill while the checkpoint is being written."""
        if self._is_due('checkpoint writing'):
            threading.Thread(target=_kill_once_written_to, args=[runner.work_dir]).start()


def _kill_once_written_to(folder: str) -> None:
    while True:
        for path in Path(folder).glob('.*.pth'):
            if path.stat().st_size > 0:
                os.kill(os.getpid(), signal.SIGKILL)
