"""Finds batches that would end a training after an epoch before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.utils.data import DataLoader

from ...errors import UserError
from ..advice import one_value_advice, several_sizes_advice
from ..unwrapped import unwrapped
from .holding_hook import HoldingHook


class BatchCheckHook(HoldingHook):
    """Checks at the start of a training for errors at the end of its first epoch.

    - If the last batch has one image and a BatchNorm layer gets a map of one pixel in the first
      step, that layer cannot compute a variance in the last step. This is an error if all images
      of the first batch have the same size, and a warning otherwise.
    - mmseg can only stack images of one size, so the first validation batch is loaded and checked.

    A config disables these checks with ``checks = dict(batches=False)``.

    Raises:
        UserError: During training, if a check fails.
    """

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Checks the first validation batch of a segmentor."""
        if runner.val_loop is not None:
            _check_stacking(unwrapped(runner.model), runner.val_loop.dataloader)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Registers hooks on the BatchNorm layers for the first step."""
        self.release()
        if batch_idx > 0 or not _ends_with_one(runner.train_dataloader):
            return
        images = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
        if not isinstance(images, (list, tuple, Tensor)) or len(images) < 2:
            return
        one_size = len({image.shape for image in images}) == 1
        for name, module in unwrapped(runner.model).named_modules():
            synchronized = isinstance(module, SyncBatchNorm) and get_world_size() > 1
            if isinstance(module, _BatchNorm) and not synchronized:
                check = partial(_check_norm, runner, name, len(images), one_size)
                self._handles.append(module.register_forward_pre_hook(check))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Removes the hooks."""
        self.release()

    def release(self) -> None:
        """Removes the hooks from the BatchNorm layers."""
        while self._handles:
            self._handles.pop().remove()


def _ends_with_one(loader: DataLoader) -> bool:
    """Returns whether the last batch of an epoch has one image and the others have more."""
    batches = loader.batch_sampler
    sampler: Any = getattr(batches, 'sampler', None)
    endless = sampler is None or isinstance(sampler, InfiniteSampler)
    if endless or getattr(batches, 'drop_last', True):
        return False
    return batches.batch_size > 1 and len(sampler) % batches.batch_size == 1


def _check_norm(
    runner: Runner,
    name: str,
    num_images: int,
    one_size: bool,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
) -> None:
    # In a head that works on regions, the first dimension is not the number of images.
    per_image = bool(inputs) and len(inputs[0]) == num_images
    if not module.training or not per_image or inputs[0][0, 0].numel() > 1:
        return
    message = (
        f'The {len(runner.train_dataloader.batch_sampler.sampler):,} training images of a process '
        f'leave one for the last batch of an epoch. {one_value_advice(name)}'
    )
    if one_size:
        raise UserError(message)
    runner.logger.warning(message)


def _check_stacking(model: nn.Module, loader: DataLoader) -> None:
    """Raises a UserError if a segmentor cannot stack the first batch of a data loader."""
    is_segmentor = any(kind.__name__ == 'BaseSegmentor' for kind in type(model).__mro__)
    if not is_segmentor or loader.batch_sampler is None:
        return
    indices: Sequence[int] = next(iter(loader.batch_sampler), ())
    images = [loader.dataset[index]['inputs'] for index in indices] if len(indices) > 1 else []
    sizes = {tuple(image.shape[-2:]) for image in images if isinstance(image, Tensor)}
    if len(sizes) > 1:
        raise UserError(several_sizes_advice(model, 'val', sizes))
