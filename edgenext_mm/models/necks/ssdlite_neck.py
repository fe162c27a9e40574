"""SSD neck of mmdet that first projects the maps of the backbone."""

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
    """mmdet's ``SSDNeck`` with a 1x1 convolution for each map of the backbone.

    ``SSDNeck`` returns the maps of the backbone with unchanged channels. The SSDLite of MobileViT
    and EdgeNeXt projects each to a different number of channels. As in ``SSDNeck``, further levels
    are computed by a 1x1 convolution to half the channels and a separable 3x3 convolution.

    Args:
        in_channels: Channels of the maps of the backbone.
        out_channels: Channels of all levels of the neck, beginning with those of the backbone.
        norm_cfg: Config of the norm layers. Default: BatchNorm.
        act_cfg: Config of the activation layers. Default: ReLU.
        kwargs: Other arguments of ``SSDNeck``, such as strides and paddings of the added levels.

    Raises:
        UserError: If ``out_channels`` is not longer than ``in_channels``.
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
                '`out_channels` must have a value for each of `in_channels` and for each added '
                f'level, got {tuple(out_channels)} for {tuple(in_channels)}.'
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
        """Maps (B, in_channels[i], H_i, W_i) to all levels (B, out_channels[i], H_i, W_i)."""
        return super().forward(
            [project(x) for project, x in zip(self.projections, inputs, strict=True)]
        )
