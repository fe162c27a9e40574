"""Batches whose random transforms follow from seed, process and step, and from nothing else.

What a worker process draws would else depend on all that it drew before, which no checkpoint
knows. mmengine's own seeds repeat, too: workers that start anew each epoch get the same ones.
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
    """Seeds Python's, NumPy's and torch's random numbers, on all devices in use.

    Args:
        *key: Non-negative numbers; keys that differ anywhere give unrelated random numbers.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed takes 7 times as long
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(words[2]))


class KeyedBatch(list):
    """The indices of a batch. Each sample that is loaded by them has random numbers of its own.

    torch takes one index after the other (``[dataset[index] for index in batch]``), and the random
    numbers are seeded before each is handed out.

    Args:
        indices: Of the samples.
        key: What the random numbers follow from.
    """

    def __init__(self, indices: Iterable[int], key: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.key = key

    def __iter__(self) -> Iterator[int]:
        for place, index in enumerate(super().__iter__()):
            seed_random(*self.key, place)
            yield index

    def __reduce__(self) -> tuple:
        return KeyedBatch, (self[:], self.key)


class SeededBatches(Sampler):
    """The batches of another sampler, which can begin at any step.

    Raises a UserError where there is no batch.

    Args:
        batch_sampler: Draws batches of indices.
        seed: See :meth:`begin`. Default: 0.
        rank: See :meth:`begin`. Default: 0.
        endless: See :meth:`begin`. Default: False.
    """

    def __init__(
        self, batch_sampler: Sampler, seed: int = 0, rank: int = 0, endless: bool = False
    ) -> None:
        self.batch_sampler = batch_sampler
        self.begin(seed, rank, endless)

    def begin(self, seed: int, rank: int, endless: bool) -> None:
        """Sets what the batches depend on.

        Args:
            seed: Of the training.
            rank: Of the process.
            endless: Whether to go over the data again and again, as iteration-based loops do.
        """
        self.seed = seed
        self.rank = rank
        self.endless = endless
        self.step = self._skip = 0

    def go_to(self, step: int, skip: int) -> None:
        """Lets the next pass over the data begin as if steps had been made.

        Args:
            step: That the next batch is for, counted over the whole training.
            skip: Batches to leave out, at no cost but that of their indices.
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
        """Batches of one pass."""
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


def no_batch_message(batch_sampler: Sampler) -> str:
    """What to do where the training data give no batch.

    Args:
        batch_sampler: Of the train_dataloader.
    """
    images, size = len(batch_sampler.sampler), batch_sampler.batch_size
    if images == 0:
        return 'The data set of the train_dataloader has no image.'
    return (
        f'The train_dataloader has {images:,} images per process, in batches of {size:,}, and '
        'drop_last=True leaves out what is no whole batch: there is nothing to train on. Set a '
        'smaller train_dataloader.batch_size, or train_dataloader.drop_last=False.'
    )


class SeededDataLoader(DataLoader):
    """A data loader of seeded batches.

    Args:
        loader: The data loader of a map-style data set, in batches, whose settings it takes.
    """

    def __init__(self, loader: DataLoader) -> None:
        settings = {
            name: getattr(loader, name)
            for name in inspect.signature(DataLoader).parameters
            if hasattr(loader, name)
        }
        # torch takes either a sampler of batches, or what to make one of.
        given = ['batch_sampler'] if loader.batch_size else ['batch_size', 'sampler', 'drop_last']
        super().__init__(**{name: v for name, v in settings.items() if name not in given})

    @property
    def batch_sampler(self) -> SeededBatches:
        """The batches. torch refuses another ``batch_sampler`` beside a ``batch_size``."""
        return self._batches

    @batch_sampler.setter
    def batch_sampler(self, batches: Sampler) -> None:
        self._batches = batches if isinstance(batches, SeededBatches) else SeededBatches(batches)
