"""The loss on the IoU of rotated boxes, for CPU and GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...registry import MODELS
from .rotated_iou import rotated_iou

MODES = ('linear', 'square', 'log')
REDUCTIONS = ('none', 'mean', 'sum')


@MODELS.register_module()
class RotatedIoULoss(nn.Module):
    """Loss on the IoU of rotated boxes.

    It takes the place of mmrotate's loss of the same name, which stops on a CPU: mmcv has no
    kernel for it (https://github.com/open-mmlab/mmcv/issues/2067,
    https://github.com/open-mmlab/mmrotate/issues/916).

    Args:
        mode: The loss of an IoU u: ``'linear'`` is 1 - u, ``'square'`` 1 - u^2, ``'log'``
            -log(u). Default: ``'log'``.
        eps: IoUs below it count as this much, so that the log stays finite; they have no
            gradient. Default: 1e-6.
        reduction: ``'none'``, ``'mean'`` or ``'sum'`` over the pairs. Default: ``'mean'``.
        loss_weight: Factor of the result. Default: 1.

    Raises:
        UserError: If ``mode`` or ``reduction`` is not among those above.

    Example:
        >>> loss = RotatedIoULoss(mode='linear')
        >>> box = torch.tensor([[50.0, 50.0, 20.0, 10.0, 0.5]])
        >>> loss(box, box + torch.tensor([0.0, 0.0, 20.0, 0.0, 0.0]))
        tensor(0.5000)
    """

    def __init__(
        self,
        mode: str = 'log',
        eps: float = 1e-6,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f'`mode` is one of {MODES}, got {mode!r}.')
        _check_reduction('reduction', reduction)
        self.mode = mode
        self.eps = eps
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss of pairs of boxes.

        Args:
            pred: (N, 5) predicted boxes, a tensor or mmrotate's ``RotatedBoxes``; see
                :func:`~edgenext_mm.models.losses.rotated_iou.rotated_iou`.
            target: (N, 5) boxes to predict, likewise.
            weight: (N,) factors of the pairs, or (N, 5), of which the mean counts.
                Default: None, 1 for all.
            avg_factor: What the sum is divided by under ``'mean'``. Default: None, N.
            reduction_override: Takes the place of ``reduction``. Default: None.

        Returns:
            (N,) losses under ``'none'``, otherwise a scalar.

        Raises:
            UserError: If the shapes do not fit, the reduction is unknown, or ``avg_factor``
                comes with ``'sum'``.
        """
        reduction = self.reduction if reduction_override is None else reduction_override
        _check_reduction('reduction_override', reduction)
        if avg_factor is not None and reduction == 'sum':
            raise UserError("`avg_factor` does not go with reduction 'sum', use 'mean' or 'none'.")
        pred, target = getattr(pred, 'tensor', pred), getattr(target, 'tensor', target)
        num_pairs = len(pred)
        if weight is not None:
            weight = _weight_of_pairs(weight, num_pairs)
            if reduction != 'none':
                # Dense heads send every anchor, nearly all with weight 0.
                kept = weight.nonzero().squeeze(1)
                pred, target, weight = pred[kept], target[kept], weight[kept]

        ious = rotated_iou(pred, target).clamp(min=self.eps)
        if self.mode == 'linear':
            losses = 1 - ious
        elif self.mode == 'square':
            losses = 1 - ious.square()
        else:
            losses = -ious.log()
        losses = self.loss_weight * (losses if weight is None else losses * weight)
        if reduction == 'none':
            return losses
        if reduction == 'sum':
            return losses.sum()
        divisor = max(num_pairs, 1) if avg_factor is None else avg_factor
        return losses.sum() / (divisor + torch.finfo(losses.dtype).eps)


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise UserError(f'`{name}` is one of {REDUCTIONS}, got {reduction!r}.')


def _weight_of_pairs(weight: Tensor, num_pairs: int) -> Tensor:
    if weight.shape not in ((num_pairs,), (num_pairs, 5)):
        raise UserError(
            f'`weight` has shape ({num_pairs},) or ({num_pairs}, 5), got {tuple(weight.shape)}.'
        )
    return weight if weight.ndim == 1 else weight.mean(1)
