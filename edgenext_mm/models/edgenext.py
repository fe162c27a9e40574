"""The EdgeNeXt backbone.

Paper: `EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile Vision
Applications`, https://arxiv.org/abs/2206.10589. Original code and weights:
https://github.com/mmaaz60/EdgeNeXt.

The parameters have the same names as in the original code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints.finding import pretrained_settings
from ..errors import UserError
from ..registry import MODELS
from .arch import NUM_STAGES, Arch, build_arch
from .infer_arch import check_arch
from .layers import ConvEncoder, SDTAEncoder, build_norm, recompute, to_channels_last
from .loading import load_backbone

OUTPUT_STRIDES = (32, 16, 8)
FINAL_NORMS = ('auto', 'pool_first', 'norm_first')

_INIT_CFG = (
    dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02, bias=0.0),
    dict(type='Constant', layer=['LayerNorm', 'BatchNorm2d'], val=1.0, bias=0.0),
)


@MODELS.register_module()
class EdgeNeXt(BaseModule):
    """EdgeNeXt backbone for any OpenMMLab model.

    The map of stage i has stride 4, 8, 16 or 32, at most ``output_stride``. An H x W image gives
    a map of size ``H // stride`` x ``W // stride``. (``small_rw``, whose convolutions overlap,
    rounds up.)

    Args:
        arch: The name of a variant (``xxsmall``, ``xsmall``, ``small``, ``base``,
            ``xxsmall_bnhs``, ``xsmall_bnhs``, ``small_bnhs``, ``small_rw``), or a dict with the
            fields of :class:`~edgenext_mm.models.arch.Arch`, for example
            ``dict(base='small', num_sdta=(0, 0, 0, 0))``. Default: ``'xxsmall'``.
        in_channels: Number of channels of the input image. Default: 3.
        out_indices: Indices of the stages whose maps are returned, in this order. Negative
            indices count from the last stage. Later stages are not built. Default: ``(3,)``.
        drop_path_rate: Drop path rate of the last encoder. The rates increase linearly from 0 for
            the first encoder. Default: 0.
        layer_scale_init_value: Initial value of the layer scales; 0 disables layer scale.
            Default: 1e-6.
        mlp_ratio: Hidden width of the MLPs divided by the number of channels. Default: 4.
        output_stride: 32, 16 or 8. Below 32, the last stages keep the resolution and use dilated
            depth-wise convolutions. The weights have the same shapes. Default: 32.
        output_norms: Whether to apply a norm to each returned map (``norm0`` to ``norm3``), for
            dense prediction heads. Default: False.
        final_norm: How the output of the last stage becomes a (B, C) feature for classification.
            ``'pool_first'`` applies global average pooling and then a norm (LayerNorm variants of
            the paper), ``'norm_first'`` the norm and then pooling (BatchNorm variants),
            ``'auto'`` chooses by the arch, None returns the map. Default: None.
        frozen_stages: Freezes the parameters and norms of the stem (0), or of the stem and the
            first n stages (n). -1 freezes nothing. Default: -1.
        norm_eval: Whether BatchNorm layers stay in evaluation mode during training.
            Default: False.
        with_cp: Whether to recompute the activations of the encoders in the backward pass, which
            saves memory. Default: False.
        init_cfg: Initialisation config of mmengine. Default: as in the paper, truncated normal
            with std 0.02 for weights and 0 for biases.

    Raises:
        UserError: If an argument is invalid.

    Example:
        >>> import torch
        >>> model = EdgeNeXt('xxsmall', out_indices=(0, 1, 2, 3))
        >>> [tuple(x.shape) for x in model(torch.rand(1, 3, 64, 96))]
        [(1, 24, 16, 24), (1, 48, 8, 12), (1, 88, 4, 6), (1, 168, 2, 3)]
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] | Arch = 'xxsmall',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (3,),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        mlp_ratio: float = 4,
        output_stride: int = 32,
        output_norms: bool = False,
        final_norm: str | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__([dict(cfg) for cfg in _INIT_CFG] if init_cfg is None else init_cfg)
        self.arch = build_arch(arch)
        self.out_indices = _resolve_out_indices(out_indices)
        _check_arguments(self.out_indices, output_stride, final_norm, frozen_stages, drop_path_rate)
        if final_norm == 'auto':
            final_norm = 'pool_first' if self.arch.norm == 'LN' else 'norm_first'
        self.final_norm = final_norm
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        dims, norm = self.arch.dims, self.arch.norm
        num_stages = max(self.out_indices) + 1
        strides, dilations = _strides_and_dilations(output_stride)
        self.max_stride = math.prod(strides[:num_stages])
        num_encoders = sum(self.arch.depths)
        drop_paths = torch.linspace(0, drop_path_rate, num_encoders, device='cpu').tolist()

        self.downsample_layers = nn.ModuleList([_stem(in_channels, self.arch)])
        self.stages = nn.ModuleList()
        for i in range(num_stages):
            by_encoder = self.arch.downsample_encoders and i > 0
            if i > 0:
                self.downsample_layers.append(
                    nn.Identity()
                    if by_encoder
                    else _downsample_layer(self.arch, i, strides[i], dilations[i - 1])
                )
            stage = nn.Sequential()
            for j in range(self.arch.depths[i]):
                downsampling = (
                    dict(in_dim=dims[i - 1], stride=strides[i], dilation=dilations[i - 1])
                    if by_encoder and j == 0
                    else dict(dilation=dilations[i])
                )
                encoder = self._build_encoder(
                    stage=i,
                    index=j,
                    **downsampling,
                    norm=norm,
                    act=self.arch.act,
                    conv_bias=self.arch.conv_bias,
                    mlp_ratio=mlp_ratio,
                    drop_path=drop_paths.pop(0),
                    layer_scale_init_value=layer_scale_init_value,
                )
                stage.append(encoder)
            self.stages.append(stage)

        if final_norm is not None:
            self.norm = build_norm(norm, dims[-1])
        self._normed = tuple(i for i in self.out_indices if output_norms and not self._is_pooled(i))
        for i in self._normed:
            self.add_module(f'norm{i}', build_norm(norm, dims[i]))
        self._freeze()

    def _build_encoder(self, stage: int, index: int, **kwargs: Any) -> nn.Module:
        arch, dim = self.arch, self.arch.dims[stage]
        if arch.is_sdta(stage, index):
            return SDTAEncoder(
                dim, arch.num_heads[stage], arch.scales[stage], arch.pos_encoding[stage], **kwargs
            )
        return ConvEncoder(dim, arch.kernel_sizes[stage], **kwargs)

    def _is_pooled(self, stage: int) -> bool:
        return self.final_norm is not None and stage == NUM_STAGES - 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of the stages in ``out_indices``.

        Args:
            x: (B, in_channels, H, W) images. H and W are at least the largest stride.

        Returns:
            A contiguous (B, dims[i], H // stride, W // stride) map for each index i (rounded up by
            ``small_rw``). With ``final_norm``, the last stage gives a (B, dims[3]) feature instead.

        Raises:
            UserError: If the image is too small.
        """
        if min(x.shape[-2:]) < self.max_stride:
            raise UserError(
                f'EdgeNeXt with {len(self.stages)} stages needs an input of at least '
                f'{self.max_stride}x{self.max_stride} pixels, got {x.shape[-2]}x{x.shape[-1]}.'
            )
        x = to_channels_last(x)
        outputs: dict[int, Tensor] = {}
        for i, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = downsample(x)
            for encoder in stage:
                x = recompute(encoder, x) if self.with_cp else encoder(x)
            if i in self.out_indices:
                outputs[i] = self._output(i, x)
        return tuple(outputs[i] for i in self.out_indices)

    def _output(self, stage: int, x: Tensor) -> Tensor:
        if self._is_pooled(stage):
            if self.final_norm == 'pool_first':
                return self.norm(x.mean((2, 3), keepdim=True)).flatten(1)
            return self.norm(x).mean((2, 3))
        if stage in self._normed:
            x = self.get_submodule(f'norm{stage}')(x)
        # mmcv's operators give wrong results for channels-last maps:
        # https://github.com/open-mmlab/mmcv/issues/2203.
        return x.contiguous()

    def train(self, mode: bool = True) -> EdgeNeXt:
        """Sets the mode, keeps frozen parts in evaluation mode, and returns the model."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages >= 0:
            frozen = [
                *self.downsample_layers[: max(self.frozen_stages, 1)],
                *self.stages[: self.frozen_stages],
            ]
            for module in frozen:
                module.eval().requires_grad_(False)

    def init_weights(self) -> None:
        """Initialises the weights by ``init_cfg``. ``Pretrained`` loads any known format."""
        pretrained = pretrained_settings(self.init_cfg)
        if not pretrained:
            super().init_weights()
            return
        configs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg]
        initialize(self, [config for config in configs if config not in pretrained])
        for config in pretrained:
            if not config.get('checkpoint'):
                raise UserError(f'`init_cfg` of EdgeNeXt has no `checkpoint`: {dict(config)!r}.')
            load_backbone(self, config['checkpoint'], config.get('prefix') or 'backbone.')
        self._is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Returns the layer of a parameter for layer-wise learning-rate decay.

        Layers are numbered as for ConvNeXt: 0 is the stem, 1 and 2 are the first two stages,
        every three encoders of the third stage are a layer, the fourth stage is a layer, and
        everything after it belongs to the last layer.

        Args:
            param_name: Name of a parameter of the model that contains the backbone.
            prefix: Prefix of the backbone's parameters in this model. Default: none.

        Returns:
            The layer and the number of layers.
        """
        last = 3 + math.ceil(self.arch.depths[2] / 3)  # the fourth stage
        kind, *indices = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix) or kind not in ('downsample_layers', 'stages'):
            return last + 1, last + 2
        stage = int(indices[0])
        if stage == 3:
            layer = last
        elif kind == 'stages' and stage == 2:
            layer = 3 + int(indices[1]) // 3
        else:
            layer = stage + 1 if kind == 'stages' or stage > 0 else 0
        return layer, last + 2

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # Called by all loaders, including those that only warn if shapes differ.
        check_arch(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _resolve_out_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    in_range = all(isinstance(i, int) and -NUM_STAGES <= i < NUM_STAGES for i in indices)
    resolved = tuple(i % NUM_STAGES for i in indices) if in_range else ()
    if not resolved or len(set(resolved)) < len(resolved):
        raise UserError(
            f'`out_indices` must be different integers between {-NUM_STAGES} and {NUM_STAGES - 1}, '
            f'got {out_indices!r}.'
        )
    return resolved


def _check_arguments(
    out_indices: tuple[int, ...],
    output_stride: int,
    final_norm: str | None,
    frozen_stages: int,
    drop_path_rate: float,
) -> None:
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(f'`output_stride` must be one of {OUTPUT_STRIDES}, got {output_stride!r}.')
    if not 0 <= drop_path_rate < 1:
        raise UserError(f'`drop_path_rate` must be at least 0 and below 1, got {drop_path_rate!r}.')
    if final_norm is not None and final_norm not in FINAL_NORMS:
        raise UserError(f'`final_norm` must be None or one of {FINAL_NORMS}, got {final_norm!r}.')
    if final_norm is not None and NUM_STAGES - 1 not in out_indices:
        raise UserError(
            f'`final_norm` needs the last stage, but `out_indices` is {out_indices}. '
            f'Add {NUM_STAGES - 1} to it, or set `final_norm` to None.'
        )
    if not -1 <= frozen_stages <= NUM_STAGES:
        raise UserError(
            f'`frozen_stages` must be between -1 (none) and {NUM_STAGES} (all), '
            f'got {frozen_stages!r}.'
        )


def _strides_and_dilations(output_stride: int) -> tuple[list[int], list[int]]:
    """Returns the stride of the layer before each stage and the dilation of each stage."""
    strides, dilations = [4, 2, 2, 2], [1, 1, 1, 1]
    for i in range(1, NUM_STAGES):
        if 4 * 2**i > output_stride:
            strides[i] = 1
            dilations[i] = 2 * dilations[i - 1]
    return strides, dilations


def _stem(in_channels: int, arch: Arch) -> nn.Sequential:
    kernel_size, padding = (9, 4) if arch.overlapping_stem else (4, 0)
    bias = arch.conv_bias and arch.norm == 'LN'
    conv = nn.Conv2d(in_channels, arch.dims[0], kernel_size, 4, padding, bias=bias)
    return nn.Sequential(conv, build_norm(arch.norm, arch.dims[0]))


def _downsample_layer(arch: Arch, stage: int, stride: int, dilation: int) -> nn.Sequential:
    """Builds norm and 2x2 convolution. Stride 1 pads right and bottom to keep the map's size."""
    in_channels, out_channels = arch.dims[stage - 1 : stage + 1]
    layer = nn.Sequential()
    layer.add_module('0', build_norm(arch.norm, in_channels))
    if stride == 1:
        layer.add_module('pad', nn.ZeroPad2d((0, dilation, 0, dilation)))
    bias = arch.conv_bias and arch.norm == 'LN'
    conv = nn.Conv2d(in_channels, out_channels, 2, stride, dilation=dilation, bias=bias)
    layer.add_module('1', conv)
    return layer
