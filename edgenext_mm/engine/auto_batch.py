"""Finds the largest batch size that fits into the memory of a GPU.

Only the search is tested on a CPU; the measurement has not been run on a GPU.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from ..errors import UserError
from .runner import build_runner
from .unwrapped import unwrapped

#: Share of the largest batch size that is used, since memory use varies during a training.
_MARGIN = 0.9
_LIMIT = 4096


def largest_that_fits(fits: Callable[[int], bool], start: int = 1, limit: int = _LIMIT) -> int:
    """Returns the largest number for which a function is true, to a sixteenth.

    Doubles the number until it no longer fits, and bisects between the last two.

    Args:
        fits: Whether a number fits; it is true for all numbers below one that fits.
        start: First number. Default: 1.
        limit: Largest number. Default: 4096.

    Returns:
        The number; 0 if not even ``start`` fits.
    """
    if not fits(start):
        return 0
    good, bad = start, None
    while bad is None and good < limit:
        trial = min(2 * good, limit)
        if fits(trial):
            good = trial
        else:
            bad = trial
    while bad is not None and bad - good > max(good // 16, 1):
        trial = (good + bad) // 2
        if fits(trial):
            good = trial
        else:
            bad = trial
    return good


def find_batch_size(config: Config) -> int:
    """Measures which batch size fits into the memory of the GPU, and returns nine tenths of it.

    Each trial trains two steps of the config's model on repeated training images. Of several
    processes, each one measures alone, and all use the smallest result.

    Args:
        config: A full config with a ``work_dir``. It is not changed.

    Raises:
        UserError: If there is no GPU, or not even one image fits.
    """
    if not torch.cuda.is_available():
        raise UserError(
            '--auto-batch measures the memory of a GPU, and this machine has none that torch can '
            'use. Set `train_dataloader.batch_size` instead.'
        )
    config = copy.deepcopy(config)
    config.load_from, config.resume = None, False
    config.train_dataloader.update(batch_size=1, num_workers=0)
    runner = build_runner(config)
    init_default_scope(config.get('default_scope', 'mmengine'))
    loader = runner.build_dataloader(config.train_dataloader)
    samples = [loader.dataset[index] for index in range(min(len(loader.dataset), 64))]
    collate = loader.collate_fn
    wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    # Without DistributedDataParallel: processes need different numbers of trials.
    model = unwrapped(runner.model).train()

    def fits(batch_size: int) -> bool:
        batch: Any = [samples[i % len(samples)] for i in range(batch_size)]
        try:
            for _ in range(2):  # the second step has the state of the optimizer
                model.train_step(collate(batch), wrapper)
        except torch.OutOfMemoryError:
            return False
        finally:
            wrapper.optimizer.zero_grad(set_to_none=True)
            gc.collect()
            torch.cuda.empty_cache()
        return True

    smallest = torch.tensor([largest_that_fits(fits)])
    all_reduce(smallest, 'min')
    found = int(smallest)
    if not found:
        raise UserError('Not even one image fits into the memory of the GPU. Use smaller images.')
    chosen = max(1, int(found * _MARGIN))
    print_log(f'auto-batch: {found} images fit; the batch size is {chosen}.', 'current')
    return chosen
