"""What lets a resumed training go on bit for bit as it would have."""

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
    """Makes random numbers and data follow from seed, process and step.

    mmengine stores weights, moving averages, optimiser, schedules, the scaler of mixed precision
    and the message hub. It neither stores states of random numbers nor how far an epoch has come.
    There is no need for the former: all random numbers are seeded anew at every step, in every
    process, and for every sample, so that no state is carried on. The position in the data
    follows from the step. Gradients that wait for more of them (``accumulative_counts``) are
    stored, of every process.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._gradients: list[dict[str, torch.Tensor]] | None = None
        self._batches: SeededBatches | None = None

    def before_train(self, runner: Runner) -> None:
        """Seeds the data, and takes up gradients."""
        loader, loop = runner.train_dataloader, runner.train_loop
        if self._gradients and len(self._gradients) == runner.world_size:
            for name, parameter in _parameters(runner).items():
                if name in self._gradients[runner.rank]:
                    gradient = self._gradients[runner.rank][name]
                    parameter.grad = gradient.to(parameter.device)
        self._gradients = None
        if not isinstance(loader, SeededDataLoader):
            runner.logger.warning(
                'The train_dataloader makes no batches of single samples; its random numbers and '
                'its position are not restored when the training is resumed.'
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
        """Seeds what the model draws."""
        seed_random(self._seed(runner), runner.rank, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Seeds what validation draws."""
        seed_random(self._seed(runner), runner.rank, runner.iter)

    def before_write_checkpoint(self, runner: Runner) -> None:
        """Called in all processes: gathers the gradients that have not been used yet."""
        own = {k: p.grad for k, p in _parameters(runner).items() if p.grad is not None}
        wrapper = runner.optim_wrapper
        if own and getattr(wrapper, '_accumulative_counts', 1) > 1:
            own = {k: gradient.cpu() for k, gradient in own.items()}
            self._gradients = all_gather_object(own)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Stores them."""
        if self._gradients is not None:
            checkpoint['gradients'] = self._gradients
        self._gradients = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes them out of a checkpoint, until the training begins."""
        self._gradients = checkpoint.pop('gradients', None) if runner._resume else None

    def _seed(self, runner: Runner) -> int:
        return runner.message_hub.runtime_info.get('random_seed', runner.seed)

    def _restore_seeds(self, runner: Runner) -> None:
        """A seed that was drawn, not set, is another one in each run."""
        info, sampler = runner.message_hub.runtime_info, _sampler(runner)
        if 'random_seed' not in info:
            seed = [runner.seed]
            broadcast_object_list(seed)
            runner.message_hub.update_info('random_seed', seed[0])
            runner.message_hub.update_info('sampler_seed', getattr(sampler, 'seed', None))
        if hasattr(sampler, 'seed'):
            sampler.seed = info['sampler_seed']


def _sampler(runner: Runner) -> Any:
    """What draws single indices."""
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _parameters(runner: Runner) -> dict[str, torch.nn.Parameter]:
    return dict(runner.model.named_parameters())
