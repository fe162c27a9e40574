"""A head for rotated boxes that regresses distributions, as generalised focal loss (GFL) does."""

from __future__ import annotations

from typing import Any

import torch
from mmrotate.models import RotatedATSSHead, RotatedRetinaHead
from torch import Tensor, nn

from ...errors import UserError
from ...registry import MODELS

NUM_DELTAS = 5  # x, y, width, height, angle


@MODELS.register_module()
class RotatedGFLHead(RotatedRetinaHead):
    """RetinaNet's towers, ATSS's assignment and GFL's regression, for rotated boxes.

    The "gfl_retina" of https://github.com/Xuyihaoby/rotate_detection, which mmrotate lacks. Each
    of the five box deltas of an anchor is the expectation of a distribution over ``reg_max + 1``
    fixed values. There is neither GFL's quality focal loss nor its distribution focal loss: the
    class has a focal loss, and the box one on what the box coder makes of the expectations.

    Towers, losses and prediction are mmrotate's ``RotatedRetinaHead``; the assignment is that of
    its ``RotatedATSSHead``, so ``train_cfg`` wants a ``RotatedATSSAssigner``.

    Args:
        args: Like kwargs, what ``RotatedRetinaHead`` takes; with ``reg_decoded_bbox=True`` the
            box loss is on decoded boxes.
        reg_max: Distributions have ``reg_max + 1`` values. Default: 8.
        delta_range: First and last of the values of the deltas of x, y, width and height, in the
            box coder's units. Default: ``(-2, 2)``.
        angle_range: Likewise for the angle. Default: ``(-5, 2)``.
        kwargs: See args.

    Raises:
        UserError: If ``reg_max`` is below 1.
    """

    def __init__(
        self,
        *args: Any,
        reg_max: int = 8,
        delta_range: tuple[float, float] = (-2.0, 2.0),
        angle_range: tuple[float, float] = (-5.0, 2.0),
        **kwargs: Any,
    ) -> None:
        if reg_max < 1:
            raise UserError(f'`reg_max` is at least 1, got {reg_max!r}.')
        self.reg_max = reg_max
        super().__init__(*args, **kwargs)
        ranges = [delta_range] * (NUM_DELTAS - 1) + [angle_range]
        values = torch.stack([torch.linspace(*limits, reg_max + 1) for limits in ranges])
        self.register_buffer('values', values, persistent=False)

    def _init_layers(self) -> None:
        super()._init_layers()
        channels = self.num_base_priors * NUM_DELTAS * (self.reg_max + 1)
        self.retina_reg = nn.Conv2d(self.retina_cls.in_channels, channels, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and box deltas of one level.

        Args:
            x: (B, in_channels, H, W) features.

        Returns:
            (B, A * num_classes, H, W) logits and (B, A * 5, H, W) float32 deltas, for A anchors
            per place.
        """
        scores, logits = super().forward_single(x)
        logits = logits.unflatten(1, (-1, NUM_DELTAS, self.reg_max + 1)).float()
        # Not a matrix product, which autocast would compute in half precision.
        deltas = (logits.softmax(3) * self.values.float()[:, :, None, None]).sum(3)
        return scores, deltas.flatten(1, 2)

    # RotatedRetinaHead hands all anchors to the assigner as one list; ATSS chooses its candidates
    # level by level, and mmrotate's head for it knows how to tell it the levels.
    _get_targets_single = RotatedATSSHead._get_targets_single
    get_num_level_anchors_inside = RotatedATSSHead.get_num_level_anchors_inside

    def get_targets(
        self, anchor_list: list, valid_flag_list: list, *args: Any, **kwargs: Any
    ) -> tuple:
        """What each anchor is to predict.

        Args:
            anchor_list: Anchors of each image, of each level.
            valid_flag_list: Whether these lie within the padded image, likewise.
            args: Ground truth and meta information, as in mmdet's ``AnchorHead.get_targets``.
            kwargs: See args.

        Returns:
            Labels, label weights, boxes and box weights, each a list with one tensor per level,
            and the number of anchors to average losses over: those assigned to an object, at
            least one for each image.
        """
        # ATSS's method joins the levels within the lists that it is given; the caller needs them.
        targets = RotatedATSSHead.get_targets(
            self, list(anchor_list), list(valid_flag_list), *args, **kwargs
        )
        return targets[1:]
