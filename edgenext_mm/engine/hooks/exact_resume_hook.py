"""Makes a resumed training continue bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...datasets.seeded_batches import SeededBatches, SeededDataLoader, seed_random
from ...registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Derives random numbers and the order of the data from seed, rank and step.

    mmengine's checkpoints hold weights, moving averages, optimizer, schedules, the gradient scaler
    and the message hub, but neither the state of random number generators nor the position within
    an epoch. Here, every step, process and sample seeds its random numbers anew, so that no state
    must be saved, and the position follows from the step. Gradients that are still being
    accumulated (``accumulative_counts``) are saved for every process.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._gradients: list[dict[str, torch.Tensor]] | None = None
        self._batches: SeededBatches | None = None

    def before_train(self, runner: Runner) -> None:
        """Restores accumulated gradients and seeds the data."""
        loader, loop = runner.train_dataloader, runner.train_loop
        if self._gradients and len(self._gradients) == runner.world_size:
            for name, parameter in runner.model.named_parameters():
                if name in self._gradients[runner.rank]:
                    gradient = self._gradients[runner.rank][name]
                    parameter.grad = gradient.to(parameter.device)
        self._gradients = None
        if not isinstance(loader, SeededDataLoader):
            runner.logger.warning(
                'The train_dataloader does not build batches from single samples. Its random '
                'numbers and its position are not restored when the training is resumed.'
            )
            return
        endless = isinstance(loop, IterBasedTrainLoop)
        self._restore_seeds(runner)
        self._batches = loader.batch_sampler
        self._batches.begin(self._seed(runner), runner.rank, endless)

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the position within the epoch."""
        if self._batches is None:
            return
        # The epoch, and the step that it began with.
        epoch, begin = runner.message_hub.runtime_info.get('epoch_begin', (-1, 0))
        if epoch != runner.epoch:
            begin = runner.iter
            runner.message_hub.update_info('epoch_begin', (runner.epoch, begin))
        self._batches.go_to(runner.iter, runner.iter - begin)

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Seeds the random numbers that the model draws."""
        seed_random(self._seed(runner), runner.rank, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Seeds the random numbers that validation draws."""
        seed_random(self._seed(runner), runner.rank, runner.iter)

    def before_write_checkpoint(self, runner: Runner) -> None:
        """Collects accumulated gradients; called on all processes."""
        own = {k: p.grad for k, p in runner.model.named_parameters() if p.grad is not None}
        if own and getattr(runner.optim_wrapper, '_accumulative_counts', 1) > 1:
            own = {k: gradient.cpu() for k, gradient in own.items()}
            self._gradients = all_gather_object(own)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the gradients to a checkpoint."""
        if self._gradients is not None:
            checkpoint['gradients'] = self._gradients
        self._gradients = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the gradients from a checkpoint."""
        self._gradients = checkpoint.pop('gradients', None) if runner._resume else None

    def _seed(self, runner: Runner) -> int:
        return runner.message_hub.runtime_info.get('random_seed', runner.seed)

    def _restore_seeds(self, runner: Runner) -> None:
        """Restores a seed that was drawn, since each run would draw another one."""
        info = runner.message_hub.runtime_info
        batches = runner.train_dataloader.batch_sampler
        sampler = getattr(batches, 'sampler', runner.train_dataloader.sampler)
        if 'random_seed' not in info:
            seed = [runner.seed]
            broadcast_object_list(seed)
            runner.message_hub.update_info('random_seed', seed[0])
            runner.message_hub.update_info('sampler_seed', getattr(sampler, 'seed', None))
        if hasattr(sampler, 'seed'):
            # mmengine's samplers take a seed only when they are built, before it is known.
            sampler.seed = info['sampler_seed']
