"""Hooks that change something outside of the runner, and give it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner


class HoldingHook(Hook):
    """A hook that changes something outside of the runner as long as a training runs.

    mmengine calls ``after_train`` only after a training that was finished. Our
    :class:`~edgenext_mm.engine.runner.Runner` calls ``release`` after any other one, too.
    """

    def after_train(self, runner: Runner) -> None:
        """Restores what the hook changed."""
        self.release()

    def release(self) -> None:
        """Restores what the hook changed. May be called more than once."""
        raise NotImplementedError


@contextmanager
def released_hooks(runner: Runner) -> Iterator[None]:
    """Releases each :class:`HoldingHook` of a runner, however the block ends."""
    try:
        yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, HoldingHook):
                hook.release()
