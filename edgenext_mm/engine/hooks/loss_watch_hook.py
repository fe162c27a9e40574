"""Losses and gradients that are not finite: told, kept and, where that is asked for, skipped."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from ...errors import UserError
from ..faults import Fault, Step, random_state
from ..unwrapped import unwrapped
from .holding_hook import HoldingHook

POLICIES = ('stop', 'skip')
#: Mixed precision halves its scale, from 65,536 on, at each overflow. After as many in a row, the
#: gradients overflow at any scale.
MAX_OVERFLOWS = 20
WAYS_OUT = (
    'Lower the learning rate, bound gradients with optim_wrapper.clip_grad, look at these images, '
    'or leave such steps out: --cfg-options loss_watch.policy=skip.'
)


class LossWatchHook(HoldingHook):
    """Ends a training, or leaves out the step, where loss or gradients are not finite.

    mmdet's ``CheckInvalidLossHook`` looks at the loss alone, now and then, once the weights are
    spoilt. This one looks before each step: at the losses of all processes, and at gradients once
    they are averaged. All processes decide alike. What it takes to see the fault again is written
    to ``non_finite_iter_N.pth`` in the work folder, of skipped steps for the first one; see
    :func:`~edgenext_mm.engine.replay.replay`.

    A step that is left out leaves no trace: neither in weights and momenta, nor in buffers such as
    the running statistics of BatchNorm. Steps that mixed precision leaves out to find its scale do
    not count, unless the loss itself is not finite.

    It costs a copy of the buffers, the norm of the gradients, and one wait for a GPU per step.

    Args:
        policy: ``stop`` or ``skip``. Default: ``stop``.
        max_skips: Once as many steps were skipped, the next fault stops the run. Default: 10.

    Raises:
        UserError: If there is no such policy; in training, if it stops.
    """

    priority = 'VERY_HIGH'  # before a moving average takes what a skipped step must not leave

    def __init__(self, policy: str = 'stop', max_skips: int = 10) -> None:
        if policy not in POLICIES:
            raise UserError(f'loss_watch.policy is one of {", ".join(POLICIES)}, got {policy!r}.')
        self.policy = policy
        self.max_skips = max_skips
        self._skips = 0
        self._overflows = 0
        self._step: Step | None = None
        self._stepped = False
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Places itself behind the model's losses and before the optimiser's step."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            runner.logger.warning(f'No loss watch: a {type(wrapper).__name__} is not known to it.')
            return
        self._handles = [
            unwrapped(runner.model).register_forward_hook(self._keep_losses, with_kwargs=True),
            wrapper.optimizer.register_step_pre_hook(partial(self._before_step, runner)),
        ]

    def release(self) -> None:
        """Removes the hooks from model and optimiser."""
        while self._handles:
            self._handles.pop().remove()
        self._step = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps what the step starts from, and the batch."""
        if self._step is None:
            buffers = unwrapped(runner.model).named_buffers()
            self._step = Step(random_state(), {name: b.detach().clone() for name, b in buffers})
            self._stepped = False
        self._step.batches.append(data_batch)

    def _keep_losses(
        self, model: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any
    ) -> None:
        if kwargs.get('mode') == 'loss' and self._step is not None:
            _, losses = model.parse_losses(output)
            self._step.losses.append({name: value.detach() for name, value in losses.items()})

    def _before_step(self, runner: Runner, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        # Set by mixed precision for fused optimisers, which leave out a step by themselves.
        overflow = getattr(optimizer, 'found_inf', None)
        if self._step is None or (overflow is not None and overflow.item()):
            return
        self._stepped, self._overflows = True, 0
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if _any_not_finite(self._step.loss(), torch.nn.utils.get_total_norm(gradients)):
            self._meet(runner, self._step)
            optimizer.zero_grad()  # without gradients, a step changes nothing

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Looks at the loss, too, where mixed precision has left out the step."""
        if self._step is None or not runner.optim_wrapper.should_update():
            return
        if not self._stepped:
            self._overflows += 1
            loss = self._step.loss()
            if self._overflows > MAX_OVERFLOWS or _any_not_finite(loss):
                self._meet(runner, self._step)
        self._step = None

    def _meet(self, runner: Runner, step: Step) -> None:
        """Stops the run, or undoes what the forward passes of the step have left."""
        fault = Fault.gather(runner, step)
        message = fault.describe()
        stop = self.policy == 'stop' or self._skips >= self.max_skips
        if stop or not self._skips:
            message += f' {fault.save()}'
            barrier()  # the first process to end takes the others along
        if stop:
            if self._skips:
                message += f' {self._skips} steps were skipped before (loss_watch.max_skips).'
            raise UserError(f'{message} {WAYS_OUT}')
        self._skips += 1
        runner.logger.warning(f'{message} The step is left out, the {self._skips}. so far.')
        for name, buffer in unwrapped(runner.model).named_buffers():
            buffer.copy_(step.buffers[name])


def _any_not_finite(*values: Tensor) -> bool:
    """Whether one of the values is not finite, on any process."""
    faults = torch.stack([~value.isfinite() for value in values]).any().float()
    all_reduce(faults, 'max')
    return bool(faults)
