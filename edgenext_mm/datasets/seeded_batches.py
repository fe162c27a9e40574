"""Batches whose random transforms depend only on seed, process and step.

Otherwise the random numbers of a worker process depend on all that it drew before, which no
checkpoint stores. mmengine's own seeds also repeat: workers that restart each epoch get the same
ones.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ..errors import UserError


def seed_random(*key: int) -> None:
    """Seeds the random numbers of Python, NumPy and torch, on all devices in use.

    Args:
        *key: Non-negative integers. Different keys give unrelated random numbers.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed takes 7 times as long
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(words[2]))


class KeyedBatch(list):
    """The indices of a batch, which seed the random numbers of each sample.

    torch loads a batch by ``[dataset[index] for index in batch]``; the random numbers are seeded
    before each index is returned.

    Args:
        indices: The indices of the samples.
        key: Integers to seed the random numbers with, besides the position in the batch.
    """

    def __init__(self, indices: Iterable[int], key: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.key = key

    def __iter__(self) -> Iterator[int]:
        for position, index in enumerate(super().__iter__()):
            seed_random(*self.key, position)
            yield index

    def __reduce__(self) -> tuple:
        return KeyedBatch, (self[:], self.key)


class SeededBatches(Sampler):
    """The batches of another sampler, which can start at any step.

    Iterating raises a UserError if there is no batch.

    Args:
        batch_sampler: A sampler of batches of indices.
        seed: The seed of the training. Default: 0.
        rank: The rank of the process. Default: 0.
        endless: Whether to repeat the data endlessly, as iteration-based loops do. Default: False.
    """

    def __init__(
        self, batch_sampler: Sampler, seed: int = 0, rank: int = 0, endless: bool = False
    ) -> None:
        self.batch_sampler = batch_sampler
        self.begin(seed, rank, endless)

    def begin(self, seed: int, rank: int, endless: bool) -> None:
        """Sets what the batches depend on, and returns to step 0.

        Args:
            seed: The seed of the training.
            rank: The rank of the process.
            endless: Whether to repeat the data endlessly, as iteration-based loops do.
        """
        self.seed = seed
        self.rank = rank
        self.endless = endless
        self.step = self._skip = 0

    def go_to(self, step: int, skip: int) -> None:
        """Starts the next pass over the data at a later step.

        Args:
            step: The step of the next batch, counted from the start of the training.
            skip: Number of batches to skip. Their samples are not loaded.
        """
        self.step, self._skip = step, skip

    def __iter__(self) -> Iterator[KeyedBatch]:
        skip, self._skip = self._skip, 0
        for batch in islice(self._batches(), skip, None):
            yield KeyedBatch(batch, (self.seed, self.rank, self.step))
            self.step += 1

    def _batches(self) -> Iterator[list[int]]:
        passes = 0
        for batch in self.batch_sampler:
            passes = 1
            yield batch
        if passes == 0:
            raise UserError(no_batch_message(self.batch_sampler))
        while self.endless:
            set_epoch = getattr(getattr(self, 'sampler', None), 'set_epoch', None)
            if set_epoch is not None:
                set_epoch(passes)
            yield from self.batch_sampler
            passes += 1

    def __len__(self) -> int:
        """Returns the number of batches in one pass."""
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


def no_batch_message(batch_sampler: Sampler) -> str:
    """Explains why the training data give no batch, and how to fix it.

    Args:
        batch_sampler: The batch sampler of the train_dataloader.
    """
    images, size = len(batch_sampler.sampler), batch_sampler.batch_size
    if images == 0:
        return 'The data set of the train_dataloader has no image.'
    return (
        f'The train_dataloader has {images:,} images per process, in batches of {size:,}, and '
        'drop_last=True drops an incomplete batch, so there is nothing to train on. Set a '
        'smaller train_dataloader.batch_size, or train_dataloader.drop_last=False.'
    )


class SeededDataLoader(DataLoader):
    """A data loader of seeded batches.

    Args:
        loader: The data loader to copy, with batches and a map-style data set.
    """

    def __init__(self, loader: DataLoader) -> None:
        settings = {
            name: getattr(loader, name)
            for name in inspect.signature(DataLoader).parameters
            if hasattr(loader, name)
        }
        # torch takes either a batch sampler, or the settings of one.
        given = ['batch_sampler'] if loader.batch_size else ['batch_size', 'sampler', 'drop_last']
        super().__init__(**{name: v for name, v in settings.items() if name not in given})

    @property
    def batch_sampler(self) -> SeededBatches:
        """The batches, as a property since torch refuses ``batch_sampler`` and ``batch_size``."""
        return self._batches

    @batch_sampler.setter
    def batch_sampler(self, batches: Sampler) -> None:
        self._batches = batches if isinstance(batches, SeededBatches) else SeededBatches(batches)
