"""Batches of several image sizes, the smaller the images the more of them.

The sampler decides on the size of a whole batch, but worker processes load image by image; hence
an index tells its data set the size as well. mmengine's data sets note the index as
``sample_idx``, where :class:`~edgenext_mm.datasets.transforms.MultiScaleRandomResizedCrop` finds
it.
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
    """The index of an image that also says how large the images of its batch are.

    Args:
        index: Of the image in its data set.
        crop_size: (H, W) in pixels.
    """

    crop_size: tuple[int, int]

    def __new__(cls, index: int, crop_size: tuple[int, int]) -> SizedIndex:
        self = super().__new__(cls, index)
        self.crop_size = crop_size
        return self

    def moved(self, index: int) -> SizedIndex:
        """The index of another image for the same batch."""
        return SizedIndex(index, self.crop_size)

    def __reduce__(self) -> tuple:
        return SizedIndex, (int(self), self.crop_size)


class BatchShape(NamedTuple):
    """What a process draws at a step: so many images, of so many pixels."""

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
    """The batches that an epoch is made of, by size.

    Args:
        batch_size: Images of the base size per process and step.
        base_size: Height and width of those images.
        size_range: Least and largest size; ``num_sizes`` of them are evenly spaced.
        num_sizes: Steps from the least to the largest size.
        divisor: What sizes are rounded to a multiple of.
        world_size: Processes. Batches are made a multiple of it and even, as MobileViT's are.

    Returns:
        One shape per distinct size, from the smallest size to the largest.
    """
    wanted = [*np.linspace(size_range[0], size_range[1], num_sizes), base_size]
    shapes = []
    for size in sorted({_round_to(value, divisor) for value in wanted}):
        count = max(batch_size, round(base_size * base_size * batch_size / (size * size)))
        count = _round_to(count, world_size)
        shapes.append(BatchShape(count - count % 2 if count > 1 else count, (size, size)))
    return tuple(shapes)


def _round_to(value: float, divisor: int) -> int:
    """The nearest multiple, halves upwards, but never less than nine tenths of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@DATA_SAMPLERS.register_module()
class MultiScaleBatchSampler(Sampler):
    """MobileViT's variable-batch sampler, by which EdgeNeXt is trained.

    An epoch holds, of each size, as many full batches as the images last for, in random order; all
    processes draw the same size at the same step. mmengine's sampler gives each process its share
    of the images. Set ``round_up=False`` there, so that shares are disjoint; the fewer than
    ``world_size`` images that cannot be shared evenly, and a last odd one, wait for another epoch.

    Where the original draws every size on its own and knows the number of steps only afterwards,
    the sizes here take turns, and their order is shuffled: an epoch has the same number of steps
    each time, which ``len`` tells, and schedules and progress bars are right.

    The order follows from seed and epoch of the sampler alone.

    Args:
        sampler: mmengine's ``DefaultSampler``, or one with its attributes.
        batch_size: Images of the base size per process and step.
        base_size: Height and width of those images. Default: 256.
        size_range: Least and largest size. Default: (160, 320).
        num_sizes: Steps from the least to the largest size. Default: 5.
        divisor: What sizes are rounded to a multiple of. Default: 32.

    Raises:
        UserError: If the share of a process is not even one batch.

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
        # A process with one image more than another must not make a step more.
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
        """Steps of an epoch."""
        return len(self.epoch_shapes)

    def _order(self) -> list[BatchShape]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        order = np.random.default_rng((seed, epoch)).permutation(len(self.epoch_shapes))
        return [self.epoch_shapes[i] for i in order]


def _fill(shapes: Sequence[BatchShape], share: int) -> tuple[BatchShape, ...]:
    """Batches of each shape in turn until a share is used up; the last one takes what is left."""
    filled: list[BatchShape] = []
    for shape in itertools.cycle(shapes):
        count = min(shape.batch_size, share - share % 2)
        if count == 0:
            return tuple(filled)
        filled.append(shape._replace(batch_size=count))
        share -= count
    raise AssertionError('there are shapes')
