"""A validation that a killed run did not come to."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validates first when a training is resumed from a checkpoint that was due for validation.

    Checkpoints are saved before validation; mmengine would go on with the next step, without the
    best metric, and without the schedules that follow metrics.
    """

    priority = 'LOWEST'
    _training = False

    def before_train(self, runner: Runner) -> None:
        """Called when all else is ready."""
        self._training = True
        loop = runner.train_loop
        if runner.val_loop is None or not runner._resume:
            return
        loop._decide_current_val_interval()
        now, end = _progress(runner)
        due = now >= max(loop.val_begin, 1) and (now % loop.val_interval == 0 or now == end)
        if due and runner.message_hub.runtime_info.get('last_validation') != now:
            runner.logger.info('Validating first, which the run that is resumed did not come to.')
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Notes the validation, for the checkpoint that a better metric leads to."""
        if self._training:
            runner.message_hub.update_info('last_validation', _progress(runner)[0])


def _progress(runner: Runner) -> tuple[int, int]:
    """Where the training is and where it ends, in the unit of its validation intervals."""
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter, runner.max_iters
    return runner.epoch, runner.max_epochs
