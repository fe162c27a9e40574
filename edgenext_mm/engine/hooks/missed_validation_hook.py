"""Runs a validation that was due when a training was killed."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validates first if a training is resumed from a checkpoint that was due for validation.

    Checkpoints are saved before validation. mmengine would continue with the next step, without
    updating the best metric and the schedules that depend on metrics.
    """

    priority = 'LOWEST'
    _training = False

    def before_train(self, runner: Runner) -> None:
        """Validates if a validation is due."""
        self._training = True
        loop = runner.train_loop
        if runner.val_loop is None or not runner._resume:
            return
        loop._decide_current_val_interval()
        now, end = _progress(runner)
        due = now >= max(loop.val_begin, 1) and (now % loop.val_interval == 0 or now == end)
        if due and runner.message_hub.runtime_info.get('last_validation') != now:
            runner.logger.info('Running the validation that the previous run did not reach.')
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Stores the position of the validation, which checkpoints of a better metric include."""
        if self._training:
            runner.message_hub.update_info('last_validation', _progress(runner)[0])


def _progress(runner: Runner) -> tuple[int, int]:
    """Returns the current and the last position of the training, in iterations or epochs."""
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter, runner.max_iters
    return runner.epoch, runner.max_epochs
