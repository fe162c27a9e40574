"""A training step that failed: its description, and a file to repeat it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import Runner
from torch import Tensor

from ..files import replacing
from .unwrapped import unwrapped

#: The number of images that a message names.
MAX_NAMES = 8


@dataclass
class Step:
    """The inputs and losses of an optimizer step, which may accumulate several batches.

    Args:
        random_state: The state of the random number generators before the step.
        buffers: The buffers of the model before the step.
        batches: The batches of the step.
        losses: The losses of each batch, by name.
    """

    random_state: dict[str, Any]
    buffers: dict[str, Tensor]
    batches: list[Any] = field(default_factory=list)
    losses: list[dict[str, Tensor]] = field(default_factory=list)

    def loss(self) -> Tensor:
        """Returns the sum of the losses; it is not finite if any of them is not."""
        return torch.stack([losses['loss'] for losses in self.losses]).sum()

    def files(self) -> list[str]:
        """Returns the paths of the images in the batches."""
        samples = [
            sample
            for batch in self.batches
            if isinstance(batch, Mapping)
            for sample in batch.get('data_samples') or ()
        ]
        return [sample.get('img_path') or 'an image without a path' for sample in samples]


def random_state() -> dict[str, Any]:
    """Returns the state of all random number generators that a model may use."""
    state = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    if torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restores the random number generators.

    Args:
        state: The result of :func:`random_state`.
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])


@dataclass
class Fault:
    """A step whose loss or gradients are not finite.

    Args:
        runner: The runner of the training.
        step: The step of this process.
        culprits: Rank, losses and files of each process whose loss is not finite; of all
            processes if only gradients are not, because those are averaged.
    """

    runner: Runner
    step: Step
    culprits: list[dict[str, Any]]

    @classmethod
    def gather(cls, runner: Runner, step: Step) -> Fault:
        """Collects the fault from all processes. Each of them must call this.

        Args:
            runner: The runner of the training.
            step: The step of this process.
        """
        losses = {k: sum(float(part[k]) for part in step.losses) for k in step.losses[0]}
        found = all_gather_object(dict(rank=get_rank(), losses=losses, files=step.files()))
        culprits = [report for report in found if not math.isfinite(report['losses']['loss'])]
        return cls(runner, step, culprits or found)

    def describe(self) -> str:
        """Returns a message with the iteration, the losses and the images."""
        losses = self.culprits[0]['losses']
        values = ', '.join(f'{name} {value:.4g}' for name, value in losses.items())
        finite = math.isfinite(losses['loss'])
        learning_rate = max(group['lr'] for group in self.runner.optim_wrapper.param_groups)
        files = [file for culprit in self.culprits for file in culprit['files']]
        more = f' and {len(files) - MAX_NAMES} more' if len(files) > MAX_NAMES else ''
        return (
            f'Iteration {self.runner.iter + 1} (epoch {self.runner.epoch + 1}, learning rate '
            f'{learning_rate:.4g}): {"gradients are" if finite else "the loss is"} not finite '
            f'({values}). Images of the batch: {", ".join(files[:MAX_NAMES])}{more}.'
        )

    def save(self) -> str:
        """Saves what is needed to repeat the step, on each process that caused the fault.

        Returns:
            A sentence that says where the file is.
        """
        name = f'non_finite_iter_{self.runner.iter + 1}'
        ranks = [culprit['rank'] for culprit in self.culprits]
        rank = get_rank() if get_rank() in ranks else ranks[0]
        path = Path(self.runner.work_dir, name + f'_rank{rank}' * (get_world_size() > 1) + '.pth')
        try:
            if rank == get_rank():
                with replacing(path) as temporary:
                    torch.save(self._content(), temporary)
        except (OSError, RuntimeError) as error:  # torch raises the latter if the disk is full
            return f'The step could not be saved to {path}: {error}.'
        return f'The step is saved in {path}; docs/training.md explains how to repeat it.'

    def _content(self) -> dict[str, Any]:
        state = unwrapped(self.runner.model).state_dict()
        return dict(
            config=self.runner.cfg.pretty_text,
            batches=self.step.batches,
            losses=self.step.losses,
            random_state=self.step.random_state,
            state_dict={name: self.step.buffers.get(name, value) for name, value in state.items()},
            optimizer=self.runner.optim_wrapper.state_dict(),
        )
