"""The base class of hooks that change something outside of the runner."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner


class HoldingHook(Hook):
    """A hook that changes something outside of the runner while a training runs.

    mmengine calls ``after_train`` only if the training finishes. Our
    :class:`~edgenext_mm.engine.Runner` calls ``release`` however it ends.
    """

    def after_train(self, runner: Runner) -> None:
        """Calls :meth:`release`."""
        self.release()

    def release(self) -> None:
        """Restores what the hook has changed. It may be called more than once."""
        raise NotImplementedError
