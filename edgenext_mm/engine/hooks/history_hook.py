"""Limits how many logged values a training keeps."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner


class HistoryHook(Hook):
    """Limits the histories of losses and times.

    mmengine keeps a million values of each in memory and in every checkpoint, and copies all of
    them whenever one is added (``HistoryBuffer.update``). After 100,000 iterations this costs
    milliseconds per iteration and megabytes per checkpoint. The log files are not affected.

    Args:
        length: The number of values to keep; at least those of one epoch are kept, because
            averages over epochs need them. Default: 10,000.
    """

    priority = 'VERY_LOW'

    def __init__(self, length: int = 10_000) -> None:
        self.length = length

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Replaces histories of another length; any iteration may be the first to log a value."""
        length = max(self.length, len(runner.train_dataloader))
        histories = runner.message_hub.log_scalars
        for name, history in histories.items():
            if history.max_length != length:
                values, counts = history.data
                histories[name] = HistoryBuffer(values[-length:], counts[-length:], length)
