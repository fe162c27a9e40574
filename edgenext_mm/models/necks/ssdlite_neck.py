"""mmdet's SSD neck behind 1x1 convolutions that give the backbone's levels their widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models import SSDNeck
from torch import Tensor, nn

from ...errors import UserError
from ...registry import MODELS


@MODELS.register_module()
class SSDLiteNeck(SSDNeck):
    """mmdet's ``SSDNeck`` for levels that are first projected to widths of their own.

    ``SSDNeck`` passes the backbone's levels on as wide as they are; the SSDLite of MobileViT and
    EdgeNeXt projects each to a width of its own. Levels beyond the backbone's follow as in
    ``SSDNeck``: a 1x1 convolution to half the width, then a separable 3x3 one.

    Args:
        in_channels: Widths of the backbone's levels.
        out_channels: Widths of all levels of the neck, the backbone's first.
        norm_cfg: mmcv's norm layer. Default: BatchNorm.
        act_cfg: mmcv's activation layer. Default: ReLU.
        **kwargs: Of ``SSDNeck``: strides and paddings of the levels it adds, and so on.

    Raises:
        UserError: If there are not more widths out than in.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if len(out_channels) <= len(in_channels):
            raise UserError(
                '`out_channels` names a width for each of `in_channels` and for the levels that '
                f'follow, got {tuple(out_channels)} for {tuple(in_channels)}.'
            )
        widths = tuple(out_channels)[: len(in_channels)]
        layers = dict(norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU'))
        super().__init__(widths, out_channels, **layers, **kwargs)
        self.in_channels = tuple(in_channels)
        self.projections = nn.ModuleList(
            ConvModule(before, after, 1, **layers)
            for before, after in zip(in_channels, widths, strict=True)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(B, in_channels[i], H_i, W_i) maps to all levels, (B, out_channels[i], H_i, W_i)."""
        return super().forward(
            [project(x) for project, x in zip(self.projections, inputs, strict=True)]
        )
