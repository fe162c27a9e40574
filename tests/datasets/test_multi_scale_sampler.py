"""The variable-batch sampler: its formula, its shares, its order, and the images it leads to."""

import pickle

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS, init_default_scope
from torch.utils.data import DataLoader

from edgenext_mm.datasets.multi_scale_sampler import (
    MultiScaleBatchSampler,
    SizedIndex,
    multi_scale_shapes,
)
from edgenext_mm.errors import UserError


def make_sampler(size=1000, rank=0, world_size=1, batch_size=16, seed=3, **kwargs):
    """The batch sampler of a process, without the processes."""
    sampler = DefaultSampler(range(size), seed=seed, round_up=False)
    sampler.rank, sampler.world_size = rank, world_size
    sampler.num_samples = -(-(size - rank) // world_size)
    return MultiScaleBatchSampler(sampler, batch_size, **kwargs)


def test_sizes_and_batches_are_the_recipes():
    """256 images of 256x256 on each of 8 GPUs, computed by hand from the recipe's formula."""
    shapes = multi_scale_shapes(256, 256, (160, 320), 5, world_size=8)
    assert [(s.crop_size[0], s.batch_size) for s in shapes] == [
        (160, 656),  # 655.36
        (192, 456),  # 455.1
        (256, 256),
        (288, 256),
        (320, 256),
    ]
    assert all(s.crop_size[0] == s.crop_size[1] for s in shapes)


def test_batches_are_even_and_shared_out():
    for world_size in (1, 2, 3, 8):
        for shape in multi_scale_shapes(100, 256, world_size=world_size):
            assert shape.batch_size % 2 == 0
            assert shape.batch_size >= 100 - world_size


@pytest.mark.parametrize('size', [1000, 1001, 1281, 4099])
def test_ranks_draw_the_same_sizes_and_disjoint_images(size):
    ranks = [make_sampler(size, rank, world_size=2) for rank in range(2)]
    for epoch in (0, 1, 7):
        for sampler in ranks:
            sampler.sampler.set_epoch(epoch)
        batches = [list(sampler) for sampler in ranks]
        assert len(batches[0]) == len(batches[1]) == len(ranks[0]) == len(ranks[1])
        shapes = [[(len(b), b[0].crop_size) for b in rank] for rank in batches]
        assert shapes[0] == shapes[1]
        shares = [{int(i) for b in rank for i in b} for rank in batches]
        assert not shares[0] & shares[1]
        assert len(shares[0] | shares[1]) >= 0.99 * size
        assert sum(len(b) for rank in batches for b in rank) == len(shares[0] | shares[1])


def test_a_batch_has_one_of_all_sizes():
    sizes = [{index.crop_size for index in batch} for batch in make_sampler(size=3000)]
    assert all(len(own) == 1 for own in sizes)
    assert set.union(*sizes) == {(n, n) for n in (160, 192, 256, 288, 320)}


def test_the_order_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = make_sampler(seed=seed)
        sampler.sampler.set_epoch(epoch)
        return [(batch[0].crop_size, [int(i) for i in batch]) for batch in sampler]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert [s for s, _ in order(1, 0)] != [s for s, _ in order(1, 1)]


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match='has 1 images per process, too few for a batch of 16'):
        make_sampler(size=1)


def test_an_index_keeps_its_size_on_its_way_to_a_worker():
    index = pickle.loads(pickle.dumps(SizedIndex(5, (32, 64))))
    assert (index, index.crop_size) == (5, (32, 64))
    assert list(range(9))[index] == 5


@pytest.mark.parametrize('num_workers', [0, 2])
def test_workers_load_images_of_the_size_of_the_batch(few_digits, num_workers):
    import edgenext_mm.datasets.transforms  # noqa: F401

    init_default_scope('mmpretrain')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='edgenext_mm.MultiScaleRandomResizedCrop', scale=64),
        dict(type='PackInputs'),
    ]
    dataset = DATASETS.build(
        dict(
            type='CustomDataset', data_root=str(few_digits), data_prefix='train', pipeline=pipeline
        )
    )
    sampler = DATA_SAMPLERS.build(
        dict(
            type='edgenext_mm.MultiScaleBatchSampler',
            base_size=64,
            size_range=(32, 96),
            num_sizes=3,
        ),
        default_args=dict(sampler=DefaultSampler(dataset, seed=0), batch_size=4),
    )
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=num_workers, collate_fn=lambda items: items
    )
    expected = [[index.crop_size for index in batch] for batch in sampler]
    found = [[tuple(item['inputs'].shape[1:]) for item in batch] for batch in loader]
    assert found == expected
    assert len(found) == len(loader)
    assert len({size for batch in found for size in batch}) == 3


def test_the_crop_falls_back_to_its_own_size():
    from edgenext_mm.datasets.transforms import MultiScaleRandomResizedCrop

    crop = MultiScaleRandomResizedCrop(scale=24)
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert crop.transform(dict(img=image))['img'].shape == (24, 24, 3)
    assert crop.transform(dict(img=image, sample_idx=3))['img'].shape == (24, 24, 3)
    sized = dict(img=image, sample_idx=SizedIndex(3, (16, 32)))
    assert crop.transform(sized)['img'].shape == (16, 32, 3)
    assert crop.scale == (24, 24)


def test_lengths_are_those_of_real_data():
    """1,281,167 images on 8 processes: every process makes as many steps as `len` says."""
    sampler = make_sampler(1_281_167, rank=7, world_size=8, batch_size=256)
    assert len(sampler) == sum(1 for _ in sampler)
    images = sum(shape.batch_size for shape in sampler.epoch_shapes)
    assert images == 1_281_167 // 8 // 2 * 2
