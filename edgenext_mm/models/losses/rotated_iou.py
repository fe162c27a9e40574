"""Differentiable IoU of rotated boxes on all devices.

Dimension letters: N pairs of boxes, E = 4 edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import UserError

# In square pixels. Two boxes with a smaller union count as empty.
MIN_UNION = 1e-24


def rotated_iou(pred: Tensor, target: Tensor) -> Tensor:
    """Computes the IoU of each predicted box and its target, differentiable in both.

    mmcv's ``diff_iou_rotated_2d`` supports CUDA only
    (https://github.com/open-mmlab/mmcv/issues/2067,
    https://github.com/open-mmlab/mmrotate/issues/916). This function uses element-wise operations
    and runs on all devices. 1,000 pairs with gradients take 2 ms on one CPU core.

    In the coordinate system of the target box, the target is the rectangle
    ``|x| <= a, |y| <= b``. By Green's theorem, the area of the intersection is the integral of
    ``-clip(y, -b, b) dx`` along the edges of the predicted box within ``|x| <= a``. On each edge
    this is a sum of trapezoids, so the points of intersection need not be sorted, and every term
    is continuous where corners and edges of the two boxes meet. If the IoU has a kink, as for
    identical boxes, the gradient is the mean of the gradients on both sides.

    The computation uses float64. Gradients are clipped to the range of the input dtype.

    Args:
        pred: (N, 5) boxes: centre x, centre y, width, height in pixels, and angle in radians,
            clockwise in the image. Negative widths and heights count as 0.
        target: (N, 5) boxes, one for each in ``pred``.

    Returns:
        (N,) IoUs between 0 and 1. They are float64 if an input is float64, and float32 otherwise.
        If both boxes have no area, the IoU is 0.

    Raises:
        UserError: If the shapes are not (N, 5) or differ, or the boxes are integers.

    Example:
        >>> import torch
        >>> box = torch.tensor([[50.0, 50.0, 20.0, 10.0, 0.5]])
        >>> rotated_iou(box, box + torch.tensor([0.0, 0.0, 20.0, 0.0, 0.0]))
        tensor([0.5000])
    """
    _check_boxes(pred, target)
    dtype = torch.float64 if torch.float64 in (pred.dtype, target.dtype) else torch.float32
    pred, target = _widen(pred), _widen(target)

    pred_w, pred_h = pred[:, 2:4].clamp(min=0).unbind(1)
    target_w, target_h = target[:, 2:4].clamp(min=0).unbind(1)
    x, y = _corners_in_frame(pred, pred_w, pred_h, target)
    shared = _shared_area(x, y, target_w / 2, target_h / 2)
    # Rounding errors are removed by subtracting constants, which keeps the gradients.
    shared = shared - shared.detach().clamp(max=0)
    union = (pred_w * pred_h + target_w * target_h - shared).clamp(min=MIN_UNION)
    iou = shared / union
    return (iou - (iou.detach() - 1).clamp(min=0)).to(dtype)


def _check_boxes(pred: Tensor, target: Tensor) -> None:
    for name, boxes in (('pred', pred), ('target', target)):
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            raise UserError(
                f'`{name}` must have shape (N, 5): centre x, centre y, width, height, angle; '
                f'got {tuple(boxes.shape)}.'
            )
        if not boxes.is_floating_point():
            raise UserError(f'`{name}` must be floating point, got {boxes.dtype}.')
    if len(pred) != len(target):
        raise UserError(
            '`pred` and `target` must have the same length, '
            f'got {len(pred)} and {len(target)} boxes.'
        )


def _widen(boxes: Tensor) -> Tensor:
    wide = boxes.double()
    if wide.requires_grad and boxes.dtype != torch.float64:
        limit = torch.finfo(boxes.dtype).max
        wide.register_hook(lambda grad: grad.clamp(-limit, limit))
    return wide


def _corners_in_frame(
    pred: Tensor, width: Tensor, height: Tensor, frame: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the (E, N) corners of ``pred``, in order, in the coordinate systems of ``frame``.

    The centres are subtracted first, so that boxes far from the origin lose no precision.
    """
    offset_x, offset_y = (pred[:, :2] - frame[:, :2]).unbind(1)
    cos, sin = frame[:, 4].cos(), frame[:, 4].sin()
    centre_x = offset_x * cos + offset_y * sin
    centre_y = offset_y * cos - offset_x * sin
    angle = pred[:, 4] - frame[:, 4]
    cos, sin = angle.cos(), angle.sin()
    along = pred.new_tensor([[0.5], [-0.5], [-0.5], [0.5]]) * width
    across = pred.new_tensor([[0.5], [0.5], [-0.5], [-0.5]]) * height
    x = centre_x + along * cos - across * sin
    y = centre_y + along * sin + across * cos
    return x, y


def _shared_area(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns the (N,) areas of polygons with (E, N) corners in ``|x| <= a, |y| <= b``."""
    next_x, next_y = x.roll(-1, 0), y.roll(-1, 0)
    length_x, length_y = next_x - x, next_y - y
    # The part of each edge within |x| <= a. It has width 0 if the edge lies outside.
    start_x, end_x = _clip(x, a), _clip(next_x, a)
    start_y = y + _ratio(start_x - x, length_x) * length_y
    end_y = next_y - _ratio(next_x - end_x, length_x) * length_y
    # The mean of clip(y, -b, b) over this part. It is constant in the fractions `before` and
    # `after`, where |y| > b, and linear from `low` to `high` in between.
    low, high = _clip(start_y, b), _clip(end_y, b)
    before = _ratio(low - start_y, end_y - start_y)
    after = _ratio(end_y - high, end_y - start_y)
    mean_y = (low + high + (before - after) * (low - high)) / 2
    return ((start_x - end_x) * mean_y).sum(0)


def _clip(x: Tensor, bound: Tensor) -> Tensor:
    # Unlike clamp, maximum and minimum share the gradient of ties, which identical boxes have.
    return torch.minimum(torch.maximum(x, -bound), bound)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Returns ``part / whole``, or ``part`` if ``whole`` is 0; it then multiplies 0 as well."""
    return part / torch.where(whole == 0, torch.ones_like(whole), whole)
