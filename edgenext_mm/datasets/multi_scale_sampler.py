"""Batches of several image sizes, with more images per batch at smaller sizes.

The sampler chooses the size of a batch, but worker processes load single images, so each index
carries the size. mmengine's data sets store the index as ``sample_idx``, where
:class:`~edgenext_mm.datasets.transforms.MultiScaleRandomResizedCrop` reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from ..errors import UserError
from ..registry import DATA_SAMPLERS


class SizedIndex(int):
    """The index of an image, with the image size of its batch.

    Args:
        index: The index of the image in its data set.
        crop_size: (H, W) in pixels.
    """

    crop_size: tuple[int, int]

    def __new__(cls, index: int, crop_size: tuple[int, int]) -> SizedIndex:
        self = super().__new__(cls, index)
        self.crop_size = crop_size
        return self

    def moved(self, index: int) -> SizedIndex:
        """Returns the index of another image with the same size."""
        return SizedIndex(index, self.crop_size)

    def __reduce__(self) -> tuple:
        return SizedIndex, (int(self), self.crop_size)


class BatchShape(NamedTuple):
    """The number of images that a process loads at a step, and their (H, W) in pixels."""

    batch_size: int
    crop_size: tuple[int, int]


def multi_scale_shapes(
    batch_size: int,
    base_size: int = 256,
    size_range: Sequence[int] = (160, 320),
    num_sizes: int = 5,
    divisor: int = 32,
    world_size: int = 1,
) -> tuple[BatchShape, ...]:
    """Computes the batch shapes of an epoch.

    Args:
        batch_size: Number of images per process and step at the base size.
        base_size: Base height and width in pixels. Default: 256.
        size_range: Smallest and largest size in pixels. Default: (160, 320).
        num_sizes: Number of evenly spaced sizes in the range. Default: 5.
        divisor: Sizes are rounded to a multiple of it. Default: 32.
        world_size: Number of processes. As in MobileViT, batch sizes are rounded to a multiple of
            it and made even. Default: 1.

    Returns:
        One shape for each size, from the smallest to the largest.
    """
    wanted = [*np.linspace(size_range[0], size_range[1], num_sizes), base_size]
    shapes = []
    for size in sorted({_round_to(value, divisor) for value in wanted}):
        count = max(batch_size, round(base_size * base_size * batch_size / (size * size)))
        count = _round_to(count, world_size)
        shapes.append(BatchShape(count - count % 2 if count > 1 else count, (size, size)))
    return tuple(shapes)


def _round_to(value: float, divisor: int) -> int:
    """Rounds to the nearest multiple, halves up, but never below nine tenths of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@DATA_SAMPLERS.register_module()
class MultiScaleBatchSampler(Sampler):
    """MobileViT's variable-batch sampler, which the paper trains EdgeNeXt with.

    The sizes take turns until the images of an epoch are used up, and the order of the batches is
    shuffled. All processes use the same size at the same step. MobileViT's code draws each size at
    random, so that the number of steps varies; here it is fixed, so that ``len``, schedules and
    progress bars are right. The order depends only on seed and epoch of the sampler.

    mmengine's sampler gives each process its share of the images. Use ``round_up=False`` there, so
    that shares are disjoint. Images that cannot be shared evenly (fewer than ``world_size``), and a
    last odd one, are left out of an epoch.

    Args:
        sampler: mmengine's ``DefaultSampler``, or a sampler with its attributes.
        batch_size: Number of images per process and step at the base size.
        base_size: Base height and width in pixels. Default: 256.
        size_range: Smallest and largest size in pixels. Default: (160, 320).
        num_sizes: Number of evenly spaced sizes in the range. Default: 5.
        divisor: Sizes are rounded to a multiple of it. Default: 32.

    Raises:
        UserError: If a process has too few images for one batch.

    Source: MobileViT, arXiv 2110.02178, section 3.3 and appendix A.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        base_size: int = 256,
        size_range: Sequence[int] = (160, 320),
        num_sizes: int = 5,
        divisor: int = 32,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        world_size = sampler.world_size
        self.shapes = multi_scale_shapes(
            batch_size, base_size, size_range, num_sizes, divisor, world_size
        )
        # A process with one more image than another must not run one more step.
        share = min(len(sampler), len(sampler.dataset) // world_size)
        self.epoch_shapes = _fill(self.shapes, share)
        if not self.epoch_shapes:
            raise UserError(
                f'MultiScaleBatchSampler has {share} images per process, too few for a batch of '
                f'{batch_size}. Lower `batch_size` or use fewer processes.'
            )

    def __iter__(self) -> Iterator[list[SizedIndex]]:
        indices = iter(self.sampler)
        for batch_size, crop_size in self._order():
            batch = itertools.islice(indices, batch_size)
            yield [SizedIndex(index, crop_size) for index in batch]

    def __len__(self) -> int:
        """Returns the number of steps of an epoch."""
        return len(self.epoch_shapes)

    def _order(self) -> list[BatchShape]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        order = np.random.default_rng((seed, epoch)).permutation(len(self.epoch_shapes))
        return [self.epoch_shapes[i] for i in order]


def _fill(shapes: Sequence[BatchShape], share: int) -> tuple[BatchShape, ...]:
    """Takes the shapes in turns until a share is used up; the last batch is smaller."""
    filled: list[BatchShape] = []
    for shape in itertools.cycle(shapes):
        count = min(shape.batch_size, share - share % 2)
        if count == 0:
            return tuple(filled)
        filled.append(shape._replace(batch_size=count))
        share -= count
    raise AssertionError('there are shapes')
