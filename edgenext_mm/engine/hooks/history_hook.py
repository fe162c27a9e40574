"""How far back a training remembers what it logged."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


class HistoryHook(Hook):
    """Keeps the histories of losses and times short.

    mmengine keeps a million values of each in memory and in every checkpoint, and copies all of
    them for each value that comes (`HistoryBuffer.update`): after 100,000 iterations that takes
    milliseconds per iteration and megabytes per checkpoint. The log itself is not touched.
    """

    priority = 'VERY_LOW'

    def __init__(self, length: int = 10_000) -> None:
        """Sets the limit.

        Args:
            length: Values to keep of each history. An epoch that is longer counts instead, since
                averages over epochs need it. Default: 10,000.
        """
        self.length = length

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Called after each iteration, which may be the first to log something."""
        length = max(self.length, len(runner.train_dataloader))
        for history in runner.message_hub.log_scalars.values():
            history.max_length = length
