"""IoU loss of rotated boxes for CPU and GPU."""

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
    """IoU loss of rotated boxes.

    It replaces mmrotate's loss of the same name, which does not run on CPUs, see
    :func:`~edgenext_mm.models.losses.rotated_iou.rotated_iou`.

    Args:
        mode: Loss for an IoU u: ``'linear'`` (1 - u), ``'square'`` (1 - u^2) or ``'log'``
            (-log(u)). Default: ``'log'``.
        eps: Lower bound of the IoUs, which keeps the log finite. Smaller IoUs have no gradient.
            Default: 1e-6.
        reduction: ``'none'``, ``'mean'`` or ``'sum'`` over the pairs. Default: ``'mean'``.
        loss_weight: Factor of the loss. Default: 1.

    Raises:
        UserError: If ``mode`` or ``reduction`` is unknown.

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
            raise UserError(f'`mode` must be one of {MODES}, got {mode!r}.')
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
        """Computes the loss of pairs of boxes.

        Args:
            pred: (N, 5) predicted boxes, a tensor or mmrotate's ``RotatedBoxes``.
            target: (N, 5) target boxes, a tensor or mmrotate's ``RotatedBoxes``.
            weight: (N,) weights of the pairs, or (N, 5) weights that are averaged for each pair.
                Default: 1.
            avg_factor: Divisor of the sum for reduction ``'mean'``. Default: N.
            reduction_override: Reduction instead of ``reduction``. Default: None.

        Returns:
            (N,) losses for reduction ``'none'``, a scalar otherwise.

        Raises:
            UserError: If the shapes do not fit, the reduction is unknown, or ``avg_factor`` is
                given with reduction ``'sum'``.
        """
        reduction = self.reduction if reduction_override is None else reduction_override
        _check_reduction('reduction_override', reduction)
        if avg_factor is not None and reduction == 'sum':
            raise UserError(
                "`avg_factor` cannot be used with reduction 'sum', only 'mean' or 'none'."
            )
        pred, target = getattr(pred, 'tensor', pred), getattr(target, 'tensor', target)
        num_pairs = len(pred)
        if weight is not None:
            if weight.shape not in ((num_pairs,), (num_pairs, 5)):
                raise UserError(
                    f'`weight` must have shape ({num_pairs},) or ({num_pairs}, 5), '
                    f'got {tuple(weight.shape)}.'
                )
            weight = weight if weight.ndim == 1 else weight.mean(1)
            if reduction != 'none':
                # Dense heads pass all anchors, and almost all have weight 0.
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
        raise UserError(f'`{name}` must be one of {REDUCTIONS}, got {reduction!r}.')
