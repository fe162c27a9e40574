"""mmengine's runner, with an end that leaves nothing behind and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner

from ..datasets.seeded_batches import no_batch_message
from ..errors import UserError
from .advice import explained_errors


class HoldingHook(Hook):
    """A hook that changes something outside of the runner as long as a training runs.

    mmengine calls ``after_train`` only after a training that was finished. :class:`Runner` calls
    ``release`` after any other one, too.
    """

    def after_train(self, runner: MMEngineRunner) -> None:
        """Restores what the hook changed."""
        self.release()

    def release(self) -> None:
        """Restores what the hook changed. May be called more than once."""
        raise NotImplementedError


@contextmanager
def released_hooks(runner: MMEngineRunner) -> Iterator[None]:
    """Releases each :class:`HoldingHook` of a runner, however the block ends."""
    try:
        yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, HoldingHook):
                hook.release()


class Runner(MMEngineRunner):
    """mmengine's runner. Its hooks are released after a training that failed, and errors of torch
    that come from a config are raised as :class:`~edgenext_mm.errors.UserError`."""

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the loop of training.

        Raises:
            UserError: If an epoch has no batch.
        """
        built = super().build_train_loop(loop)
        if isinstance(built, EpochBasedTrainLoop) and len(built.dataloader) == 0:
            raise UserError(no_batch_message(built.dataloader.batch_sampler))
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the loop of validation.

        Raises:
            UserError: If there is no image.
        """
        built = super().build_val_loop(loop)
        if len(built.dataloader.dataset) == 0:
            raise UserError('The data set of the val_dataloader has no image.')
        return built

    def train(self) -> Any:
        """Trains; returns the model."""
        with released_hooks(self), explained_errors(self):
            return super().train()

    def val(self) -> dict[str, Any]:
        """Validates; returns the metrics."""
        with explained_errors(self):
            return super().val()

    def test(self) -> dict[str, Any]:
        """Tests; returns the metrics."""
        with explained_errors(self):
            return super().test()
