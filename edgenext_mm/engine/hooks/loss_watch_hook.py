"""Detects losses and gradients that are not finite before they change the weights."""

from __future__ import annotations

from collections.abc import Mapping
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
#: Mixed precision halves its scale, which starts at 65,536, at each overflow. After this many
#: overflows in a row, no scale can help.
MAX_OVERFLOWS = 20
_ADVICE = (
    'Lower the learning rate, clip gradients with optim_wrapper.clip_grad, check these images, or '
    'skip such steps: --cfg-options loss_watch.policy=skip.'
)


class LossWatchHook(HoldingHook):
    """Stops a training, or skips the step, if the loss or a gradient is not finite.

    mmdet's ``CheckInvalidLossHook`` checks the loss at intervals, after the weights have changed.
    This hook checks before each step: the losses of all processes, and the averaged gradients. All
    processes make the same decision. It saves what is needed to repeat the step as
    ``non_finite_iter_N.pth`` in the work folder (of skipped steps, only for the first one); see
    :func:`~edgenext_mm.engine.replay.replay`.

    A skipped step changes neither weights, momenta nor buffers such as BatchNorm's running
    statistics. Steps that mixed precision skips while it searches its scale do not count, unless
    the loss itself is not finite.

    Each step costs a copy of the buffers, the norm of the gradients and one GPU synchronization.

    Args:
        policy: ``stop`` or ``skip``. Default: ``stop``.
        max_skips: The number of steps to skip before the next one stops the run. Default: 10.

    Raises:
        UserError: If ``policy`` is unknown; during training, if the run stops.
    """

    priority = 'VERY_HIGH'  # the moving average must not see a step that will be skipped

    def __init__(self, policy: str = 'stop', max_skips: int = 10) -> None:
        if policy not in POLICIES:
            raise UserError(
                f'loss_watch.policy must be one of {", ".join(POLICIES)}, got {policy!r}.'
            )
        self.policy = policy
        self.max_skips = max_skips
        self._skips = 0
        self._overflows = 0
        self._step: Step | None = None
        self._stepped = False
        self._handles: list[Any] = []

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LossWatchHook | None:
        """Builds the hook of a config; None if it has ``loss_watch=None``.

        Raises:
            UserError: If ``loss_watch`` has an unknown setting.
        """
        settings = config.get('loss_watch', {})
        if settings is None:
            return None
        if not isinstance(settings, Mapping) or set(settings) - {'policy', 'max_skips'}:
            raise UserError(
                f'`loss_watch` is {settings!r}. It takes `policy`, one of {", ".join(POLICIES)}, '
                'and `max_skips`, a number of steps; or set it to None.'
            )
        return cls(**settings)

    def before_train(self, runner: Runner) -> None:
        """Registers hooks on the model and on the optimizer."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            runner.logger.warning(f'The loss watch is off: it does not support {type(wrapper)}.')
            return
        self._handles = [
            unwrapped(runner.model).register_forward_hook(self._keep_losses, with_kwargs=True),
            wrapper.optimizer.register_step_pre_hook(partial(self._before_step, runner)),
        ]

    def release(self) -> None:
        """Removes the hooks from the model and the optimizer."""
        while self._handles:
            self._handles.pop().remove()
        self._step = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Saves the state at the start of the step, and the batch."""
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
        # Mixed precision sets it for fused optimizers, which then skip the step themselves.
        overflow = getattr(optimizer, 'found_inf', None)
        if self._step is None or (overflow is not None and overflow.item()):
            return
        self._stepped, self._overflows = True, 0
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if _any_not_finite(self._step.loss(), torch.nn.utils.get_total_norm(gradients)):
            self._handle_fault(runner, self._step)
            optimizer.zero_grad()  # without gradients, the step changes nothing

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Checks the loss if mixed precision has skipped the step."""
        if self._step is None or not runner.optim_wrapper.should_update():
            return
        if not self._stepped:
            self._overflows += 1
            loss = self._step.loss()
            if self._overflows > MAX_OVERFLOWS or _any_not_finite(loss):
                self._handle_fault(runner, self._step)
        self._step = None

    def _handle_fault(self, runner: Runner, step: Step) -> None:
        """Stops the run, or restores the buffers that the forward passes have changed."""
        fault = Fault.gather(runner, step)
        message = fault.describe()
        stop = self.policy == 'stop' or self._skips >= self.max_skips
        if stop or not self._skips:
            message += f' {fault.save()}'
            barrier()  # the first process that ends makes the launcher end the others
        if stop:
            if self._skips:
                message += f' {self._skips} steps were skipped before (loss_watch.max_skips).'
            raise UserError(f'{message} {_ADVICE}')
        self._skips += 1
        runner.logger.warning(f'{message} Skipped this step, number {self._skips} so far.')
        for name, buffer in unwrapped(runner.model).named_buffers():
            buffer.copy_(step.buffers[name])


def _any_not_finite(*values: Tensor) -> bool:
    """Returns whether one of the values is not finite on any process."""
    faults = torch.stack([~value.isfinite() for value in values]).any().float()
    all_reduce(faults, 'max')
    return bool(faults)
