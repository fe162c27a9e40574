"""Logs which samples a training skips."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...datasets.bad_data import BadSampleList


class BadDataHook(Hook):
    """Logs each file that any worker process of any rank skips once, and their number at the end.

    Args:
        skipped: The list of skipped samples, which all processes share.
    """

    def __init__(self, skipped: BadSampleList) -> None:
        self.skipped = skipped
        self._num_logged = 0
        self._size_logged = 0

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Logs the new entries of the list."""
        if not is_main_process() or self.skipped.size() == self._size_logged:
            return
        self._size_logged = self.skipped.size()
        entries = self.skipped.read()
        for entry in entries[self._num_logged :]:
            runner.logger.warning(f'Skipped a bad sample: {entry["file"]} {entry["error"]}')
        self._num_logged = len(entries)

    def after_train(self, runner: Runner) -> None:
        """Logs the number of skipped samples."""
        if self._num_logged:
            runner.logger.warning(
                f'{self._num_logged} bad samples were skipped in this training; '
                f'{self.skipped.path} lists them.'
            )
