"""What of a checkpoint a training or test starts from."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints.loading import fit_weights, weights_of
from .unwrapped import unwrapped


class LoadReportHook(Hook):
    """Lets ``load_from`` name a checkpoint of any format, leaves out what does not fit, and says
    so in three lines.

    That is how fine-tuning on another number of classes goes: the head of the checkpoint is of
    another shape, and starts anew. Resuming is not affected.
    """

    priority = 'VERY_HIGH'  # before a moving average takes its copy

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what the file holds, before the model takes it.

        Raises:
            UserError: If the model has none of the names.
        """
        if runner._resume:
            return
        model = unwrapped(runner.model)
        fit = fit_weights(model, weights_of(checkpoint, model), runner._load_from)
        checkpoint['state_dict'] = fit.taken
        runner.logger.info(fit.report)
