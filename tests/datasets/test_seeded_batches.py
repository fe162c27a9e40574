"""Batches that begin at any step, and whose random numbers follow from it."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from edgenext_mm.datasets import MultiScaleBatchSampler
from edgenext_mm.datasets.seeded_batches import SeededBatches, SeededDataLoader


class Draws(torch.utils.data.Dataset):
    """Samples of an index and of what Python, NumPy and torch draw."""

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def make_batches(kind='one size', endless=False):
    if kind == 'infinite':
        batches = BatchSampler(InfiniteSampler(Draws(), seed=3), 4, False)
    else:
        sampler = DefaultSampler(Draws(), shuffle=True, seed=3, round_up=False)
        batches = BatchSampler(sampler, 4, False)
        if kind == 'multi-scale':
            batches = MultiScaleBatchSampler(sampler, 4, 64, (32, 96), 3)
    return SeededBatches(batches, seed=0, rank=1, endless=endless)


def show(batches, count=None):
    """Indices, sizes of images if there are any, and keys."""
    return [
        ([(int(i), getattr(i, 'crop_size', None)) for i in batch], batch.key)
        for batch in itertools.islice(batches, count)
    ]


@pytest.mark.parametrize('kind', ['one size', 'multi-scale'])
@pytest.mark.parametrize('step', [0, 1, 5])
def test_they_begin_within_an_epoch(kind, step):
    whole = show(make_batches(kind))
    resumed = make_batches(kind)
    resumed.go_to(step, skip=step)
    assert show(resumed) == whole[step:]
    assert len(show(resumed)) == len(whole)  # the next pass is whole again


@pytest.mark.parametrize('kind', ['one size', 'infinite'])
@pytest.mark.parametrize('step', [3, 8, 21])  # 8 batches are a pass over the data
def test_they_begin_in_any_pass_of_an_endless_run(kind, step):
    whole = show(make_batches(kind, endless=True), 30)
    resumed = make_batches(kind, endless=True)
    resumed.go_to(step, skip=step)
    assert show(resumed, 30 - step) == whole[step:]
    assert whole[0][0] != whole[8][0]  # each pass has an order of its own


def draw(num_workers, step=0):
    dataset = Draws()
    sampler = DefaultSampler(dataset, shuffle=True, seed=3)
    loader = SeededDataLoader(
        DataLoader(
            dataset, 4, sampler=sampler, num_workers=num_workers, collate_fn=lambda samples: samples
        )
    )
    assert loader.batch_size == 4
    loader.batch_sampler.go_to(step, skip=step)
    return list(loader)


def test_what_samples_draw_depends_on_the_step_alone():
    whole = draw(0)
    assert draw(2) == whole
    assert draw(2, step=3) == whole[3:]
    for values in list(zip(*itertools.chain(*whole), strict=True))[1:]:
        assert len(set(values)) == 30


def test_another_epoch_draws_something_else():
    dataset = Draws()
    loader = SeededDataLoader(DataLoader(dataset, 4, collate_fn=lambda samples: samples))
    first, second = list(loader), list(loader)
    assert [s[0] for batch in first for s in batch] == [s[0] for batch in second for s in batch]
    assert not {s[1] for batch in first for s in batch} & {s[1] for batch in second for s in batch}


def test_batches_reach_a_worker_with_their_key():
    (batch, *_) = make_batches('multi-scale')
    copy = pickle.loads(pickle.dumps(batch))
    assert (list(copy), copy.key) == (list(batch), (0, 1, 0))
    assert [i.crop_size for i in copy] == [i.crop_size for i in batch]


def test_the_sampler_within_is_reached():
    batches = make_batches()
    assert batches.sampler.seed == 3
    assert batches.batch_size == 4
    assert len(batches) == 8
