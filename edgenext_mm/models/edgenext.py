"""The EdgeNeXt backbone.

Paper: `EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile Vision
Applications`, https://arxiv.org/abs/2206.10589. Reference: https://github.com/mmaaz60/EdgeNeXt.

Parameters carry the names of the authors' files, so that their weights are ours with a prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
    """EdgeNeXt backbone, for any OpenMMLab model.

    The map of stage i has stride 4, 8, 16, 32 (or ``output_stride``, where that is less) and,
    for an input of H x W of any size, ``H // stride`` x ``W // stride`` places: sizes round down.

    Args:
        arch: A variant's name (``xxsmall``, ``xsmall``, ``small``, ``base``, ``xxsmall_bnhs``,
            ``xsmall_bnhs``, ``small_bnhs``) or a dict with the fields of
            :class:`~edgenext_mm.models.arch.Arch`, for instance
            ``dict(base='small', num_sdta=(0, 0, 0, 0))``. Default: ``'xxsmall'``.
        in_channels: Channels of the input image. Default: 3.
        out_indices: Stages whose maps are returned, 0 to 3, in this order; negative ones count
            from the last. Stages after the last of them are not built. Default: ``(3,)``.
        drop_path_rate: Drop path of the last encoder; it grows linearly from 0 at the first.
            Default: 0.
        layer_scale_init_value: Where layer scales start; 0 builds none. Default: 1e-6.
        mlp_ratio: Hidden width of the MLPs over their channels. Default: 4.
        output_stride: 32, 16 or 8. Below 32 the last stages keep the resolution and dilate their
            depth-wise convolutions instead; the weights stay those of stride 32. Default: 32.
        output_norms: Whether each returned map passes a norm of its own, ``norm0`` to ``norm3``,
            as dense heads like it. Default: False.
        final_norm: What classification needs: the output of the last stage becomes a (B, C)
            vector through global average pooling and one norm. ``'pool_first'`` pools, then
            normalises (the LayerNorm variants of the paper), ``'norm_first'`` normalises, then
            pools (its BatchNorm variants), ``'auto'`` takes what the arch's family does, None
            returns the map. Default: None.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages: no
            gradients, and evaluation mode. Default: -1.
        norm_eval: Whether BatchNorm layers keep their running statistics fixed in training.
            Default: False.
        with_cp: Whether encoders recompute their activations in the backward pass, to save
            memory. Default: False.
        init_cfg: mmengine initialisation. Default: the paper's, truncated normal of std 0.02 for
            weights, 0 for biases.

    Raises:
        UserError: If an argument does not fit; the message names it and what is accepted.

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
        strides, dilations = _dilate(output_stride)
        self.max_stride = math.prod(strides[:num_stages])
        drop_paths = torch.linspace(0, drop_path_rate, sum(self.arch.depths)).tolist()
        encoder_args = dict(
            norm=norm,
            act=self.arch.act,
            mlp_ratio=mlp_ratio,
            layer_scale_init_value=layer_scale_init_value,
        )

        stem = nn.Sequential(
            nn.Conv2d(in_channels, dims[0], kernel_size=4, stride=4, bias=norm == 'LN'),
            build_norm(norm, dims[0]),
        )
        self.downsample_layers = nn.ModuleList([stem])
        self.stages = nn.ModuleList()
        for i in range(num_stages):
            if i > 0:
                self.downsample_layers.append(
                    _downsample(dims[i - 1], dims[i], norm, strides[i], dilations[i - 1])
                )
            self.stages.append(
                nn.Sequential(
                    *(
                        self._build_encoder(
                            i, j, dilations[i], drop_path=drop_paths.pop(0), **encoder_args
                        )
                        for j in range(self.arch.depths[i])
                    )
                )
            )

        if final_norm is not None:
            self.norm = build_norm(norm, dims[-1])
        self._normed = tuple(i for i in self.out_indices if output_norms and not self._is_pooled(i))
        for i in self._normed:
            self.add_module(f'norm{i}', build_norm(norm, dims[i]))
        self._freeze()

    def _build_encoder(self, stage: int, index: int, dilation: int, **args: Any) -> nn.Module:
        arch, dim = self.arch, self.arch.dims[stage]
        if arch.is_sdta(stage, index):
            heads, scales = arch.num_heads[stage], arch.scales[stage]
            return SDTAEncoder(dim, heads, scales, arch.pos_encoding[stage], dilation, **args)
        return ConvEncoder(dim, arch.kernel_sizes[stage], dilation, **args)

    def _is_pooled(self, stage: int) -> bool:
        return self.final_norm is not None and stage == NUM_STAGES - 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages in ``out_indices``.

        Args:
            x: (B, in_channels, H, W) images; H and W at least the largest stride.

        Returns:
            One contiguous (B, dims[i], H // stride, W // stride) map per index i; with
            ``final_norm``, (B, dims[3]) instead for the last stage.

        Raises:
            UserError: If the image is smaller than one cell of the deepest map.
        """
        smallest = self.max_stride
        if min(x.shape[-2:]) < smallest:
            raise UserError(
                f'EdgeNeXt with {len(self.stages)} stages needs an input of at least '
                f'{smallest}x{smallest} pixels, got {x.shape[-2]}x{x.shape[-1]}.'
            )
        x = to_channels_last(x)
        features: dict[int, Tensor] = {}
        for i, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = downsample(x)
            for encoder in stage:
                x = recompute(encoder, x) if self.with_cp else encoder(x)
            if i in self.out_indices:
                features[i] = self._output(i, x)
        return tuple(features[i] for i in self.out_indices)

    def _output(self, stage: int, x: Tensor) -> Tensor:
        if self._is_pooled(stage):
            if self.final_norm == 'pool_first':
                return self.norm(x.mean((2, 3), keepdim=True)).flatten(1)
            return self.norm(x).mean((2, 3))
        if stage in self._normed:
            x = self.get_submodule(f'norm{stage}')(x)
        # mmcv's operators read the memory of a channels-last map as if it were contiguous:
        # https://github.com/open-mmlab/mmcv/issues/2203.
        return x.contiguous()

    def train(self, mode: bool = True) -> EdgeNeXt:
        """Sets the mode, except for what is frozen, and returns the model."""
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
        """Initialises as ``init_cfg`` says; ``Pretrained`` takes checkpoints of any format."""
        config = self.init_cfg
        if not isinstance(config, Mapping) or config.get('type') != 'Pretrained':
            super().init_weights()
            return
        load_backbone(self, config['checkpoint'], config.get('prefix') or 'backbone.')
        self._is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """How deep a parameter lies, for layer-wise learning-rate decay.

        As ConvNeXt counts: the stem is layer 0, the first two stages one layer each, the third one
        for every three encoders, the fourth one, and what follows one more.

        Args:
            param_name: Of the model that holds the backbone.
            prefix: Of the backbone's names there.

        Returns:
            The layer, and how many there are.
        """
        last = 3 + -(-self.arch.depths[2] // 3)
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
        # Every loader ends here, also those that would only warn of shapes that differ.
        check_arch(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _resolve_out_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    accepted = f'between {-NUM_STAGES} and {NUM_STAGES - 1}, each stage once'
    if not indices or not all(
        isinstance(i, int) and -NUM_STAGES <= i < NUM_STAGES for i in indices
    ):
        raise UserError(f'`out_indices` are integers {accepted}, got {out_indices!r}.')
    resolved = tuple(i % NUM_STAGES for i in indices)
    if len(set(resolved)) < len(resolved):
        raise UserError(f'`out_indices` are integers {accepted}, got {out_indices!r}.')
    return resolved


def _check_arguments(
    out_indices: tuple[int, ...],
    output_stride: int,
    final_norm: str | None,
    frozen_stages: int,
    drop_path_rate: float,
) -> None:
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(f'`output_stride` is one of {OUTPUT_STRIDES}, got {output_stride!r}.')
    if not 0 <= drop_path_rate < 1:
        raise UserError(f'`drop_path_rate` is at least 0 and below 1, got {drop_path_rate!r}.')
    if final_norm is not None and final_norm not in FINAL_NORMS:
        raise UserError(f'`final_norm` is None or one of {FINAL_NORMS}, got {final_norm!r}.')
    if final_norm is not None and NUM_STAGES - 1 not in out_indices:
        raise UserError(
            '`final_norm` works on the last stage, which `out_indices` '
            f'{out_indices} does not return. Add {NUM_STAGES - 1}, or give None.'
        )
    if not -1 <= frozen_stages <= NUM_STAGES:
        raise UserError(
            f'`frozen_stages` is between -1 (none) and {NUM_STAGES} (all), got {frozen_stages!r}.'
        )


def _dilate(output_stride: int) -> tuple[list[int], list[int]]:
    """Stride of the layer before each stage, and dilation within the stage."""
    strides, dilations = [4, 2, 2, 2], [1, 1, 1, 1]
    for i in range(1, NUM_STAGES):
        if 4 * 2**i > output_stride:
            strides[i] = 1
            dilations[i] = 2 * dilations[i - 1]
    return strides, dilations


def _downsample(
    in_channels: int, out_channels: int, norm: str, stride: int, dilation: int
) -> nn.Sequential:
    """Norm and 2x2 convolution; at stride 1, padded right and below to keep the map's size."""
    layer = nn.Sequential()
    layer.add_module('0', build_norm(norm, in_channels))
    if stride == 1:
        layer.add_module('pad', nn.ZeroPad2d((0, dilation, 0, dilation)))
    bias = norm == 'LN'
    conv = nn.Conv2d(in_channels, out_channels, 2, stride, dilation=dilation, bias=bias)
    layer.add_module('1', conv)
    return layer
