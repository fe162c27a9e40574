"""The loop of trainings that count iterations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch.utils.data import DataLoader

from ..datasets.seeded_batches import SeededDataLoader


class IterBasedTrainLoop(MMEngineIterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``. When a training is resumed, its batches begin at the right
    step by themselves, so that none are loaded to be skipped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.dataloader, SeededDataLoader):
            self.dataloader_iterator = _Batches(self.dataloader)


class _Batches:
    """The batches of a loader that does not end."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._iterator is None:  # worker processes start when the first batch is asked for
            self._iterator = iter(self._loader)
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Called by mmengine where a training is resumed."""
