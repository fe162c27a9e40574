"""Rotated box head that regresses distributions, as in generalised focal loss (GFL)."""

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
    """Rotated detection head with the towers of RetinaNet, ATSS assignment and GFL regression.

    This is "gfl_retina" of https://github.com/Xuyihaoby/rotate_detection, which mmrotate does not
    have. Each of the five box deltas of an anchor is the expectation of a distribution over
    ``reg_max + 1`` fixed values. Unlike GFL, it uses neither quality focal loss nor distribution
    focal loss: there is a focal loss for the class, and a box loss for the decoded expectations.

    Towers, losses and prediction are those of mmrotate's ``RotatedRetinaHead``. The assignment is
    that of ``RotatedATSSHead``, so ``train_cfg`` needs a ``RotatedATSSAssigner``.

    Args:
        args: Positional arguments of ``RotatedRetinaHead``.
        reg_max: Number of values of a distribution minus 1. Default: 8.
        delta_range: First and last value of the deltas of x, y, width and height, in units of the
            box coder. Default: ``(-2, 2)``.
        angle_range: First and last value of the delta of the angle. Default: ``(-5, 2)``.
        kwargs: Keyword arguments of ``RotatedRetinaHead``. With ``reg_decoded_bbox=True``, the
            box loss compares decoded boxes.

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
            raise UserError(f'`reg_max` must be at least 1, got {reg_max!r}.')
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
        """Computes the scores and box deltas of one level.

        Args:
            x: (B, in_channels, H, W) features.

        Returns:
            (B, A * num_classes, H, W) logits and (B, A * 5, H, W) float32 deltas for A anchors
            per position.
        """
        scores, logits = super().forward_single(x)
        H, W = logits.shape[-2:]
        # At most four dimensions: converters for phones support no more.
        deltas = self.num_base_priors * NUM_DELTAS
        logits = logits.reshape(-1, deltas, self.reg_max + 1, H * W).float()
        values = self.values.float().repeat(self.num_base_priors, 1)[..., None]
        # autocast would compute a matrix product in half precision.
        expected = (logits.softmax(2) * values).sum(2)
        return scores, expected.reshape(-1, deltas, H, W)

    # RotatedRetinaHead passes all anchors to the assigner as one list. ATSS selects candidates by
    # level, so these methods come from mmrotate's ATSS head.
    _get_targets_single = RotatedATSSHead._get_targets_single
    get_num_level_anchors_inside = RotatedATSSHead.get_num_level_anchors_inside

    def get_targets(
        self, anchor_list: list, valid_flag_list: list, *args: Any, **kwargs: Any
    ) -> tuple:
        """Computes the targets of all anchors.

        Args:
            anchor_list: Anchors by image and level.
            valid_flag_list: Whether the anchors lie in the padded image, by image and level.
            args: Other positional arguments of mmdet's ``AnchorHead.get_targets``.
            kwargs: Keyword arguments of mmdet's ``AnchorHead.get_targets``.

        Returns:
            Labels, label weights, boxes and box weights, each as a list with one tensor per level,
            and the number of anchors by which losses are divided: the anchors assigned to objects,
            counting at least one per image.
        """
        # RotatedATSSHead modifies the lists, which the caller still needs.
        targets = RotatedATSSHead.get_targets(
            self, list(anchor_list), list(valid_flag_list), *args, **kwargs
        )
        return targets[1:]
