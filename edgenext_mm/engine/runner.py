"""mmengine's runner, with an end that leaves nothing behind and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner as MMEngineRunner

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
