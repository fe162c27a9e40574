"""The deploy form: an equivalent EdgeNeXt with fewer and larger steps, for inference only.

Scale and shift of a norm go into the linear layer or convolution after it, layer scales into the
last layer of their branch, BatchNorm into convolutions, the attention's temperature into one of its
factors; drop path is gone; the positional encoding is computed once per size, or is a constant.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import EdgeNeXt
from ..models.layers import ConvEncoder, Encoder, SDTAEncoder, multi_scale, to_channels_last
from .folding import Affine, affine_of, conv_with, fold_after, fold_before, is_layer_norm
from .fused_layers import LAYOUTS, Normalize, Pointwise, Position


class DeployConvEncoder(nn.Module):
    """:class:`~edgenext_mm.models.layers.ConvEncoder` for inference."""

    def __init__(self, encoder: ConvEncoder, layout: str) -> None:
        super().__init__()
        conv = affine_of(encoder.dwconv)
        if not is_layer_norm(encoder.norm):
            conv = fold_after(conv, *affine_of(encoder.norm))
        self.dwconv = conv_with(encoder.dwconv, conv)
        self.norm = _normalize(encoder.norm, layout)
        self.expand, self.project = _mlp(encoder, layout, norm_is_folded=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        return self.project(self.expand(self.norm(self.dwconv(x))), x)


class DeploySDTAEncoder(nn.Module):
    """:class:`~edgenext_mm.models.layers.SDTAEncoder` for inference."""

    def __init__(self, encoder: SDTAEncoder, layout: str, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.num_heads = encoder.xca.num_heads
        self.convs = nn.ModuleList(conv_with(c, affine_of(c)) for c in encoder.convs)
        self.position = encoder.pos_embd and Position(encoder.pos_embd, size)
        qkv, norm = affine_of(encoder.xca.qkv), affine_of(encoder.norm_xca)
        self.norm_xca: nn.Module = nn.Identity()
        if encoder.norm_xca_is_residual:
            self.register_buffer('scale', norm.weight.float().view(-1, 1, 1))
            self.register_buffer('shift', norm.bias.float().view(-1, 1, 1))
        else:
            self.norm_xca = _normalize(encoder.norm_xca, layout)
            qkv = fold_before(norm, qkv)
            self.scale = None
        self.qkv = Pointwise(qkv, layout)
        self.register_buffer('inverse_temperature', 1 / encoder.xca.temperature.detach().float())
        self.proj = Pointwise(_scaled(encoder.xca.proj, encoder.gamma_xca), layout)
        self.norm = _normalize(encoder.norm, layout)
        self.expand, self.project = _mlp(encoder, layout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        t = multi_scale(x, self.convs)
        if self.scale is not None:
            t = torch.addcmul(self.shift, t, self.scale)
        if self.position is not None:
            t = t + self.position(t)
        t = self.proj(self._attend(self.qkv(self.norm_xca(t))), t)
        return self.project(self.expand(self.norm(t)), x)

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, 3 C, H, W) queries, keys and values to the (B, C, H, W) map that attention gives."""
        B, C, H, W = qkv.shape
        qkv = qkv.reshape(B, 3, self.num_heads, C // 3 // self.num_heads, H * W)
        q, k, v = qkv.unbind(1)  # each (B, h, d, N)
        # Divisions, because OpenVINO would take factors for the scale of standard attention.
        attention = _unit(q, self.inverse_temperature) @ _unit(k).transpose(-2, -1)
        return (attention.softmax(dim=-1) @ v).reshape(B, C // 3, H, W)


def _unit(x: Tensor, divisor: Tensor | float = 1.0) -> Tensor:
    """``x`` scaled to L2 norm ``1 / divisor`` along the last axis.

    The norm and the division are at least in single precision: in half precision, squares overflow,
    and so can the norm itself.
    """
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    length = torch.linalg.vector_norm(precise, dim=-1, keepdim=True).clamp_min(1e-12)
    return (precise / (length * divisor)).to(x.dtype)


class DeployEdgeNeXt(nn.Module):
    """:class:`~edgenext_mm.EdgeNeXt` for inference; same input, same outputs.

    Args:
        backbone: The trained one; not changed.
        layout: One of :data:`~edgenext_mm.deployment.fused_layers.LAYOUTS`. Default: channels last.
        image_size: (H, W), where it is fixed. Default: any.
    """

    def __init__(
        self,
        backbone: EdgeNeXt,
        layout: str = 'channels_last',
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise UserError(f'Unknown layout {layout!r}. Choose from {", ".join(LAYOUTS)}.')
        self.arch = backbone.arch
        self.layout = layout
        self.image_size = image_size
        self.out_indices = backbone.out_indices
        self.max_stride = backbone.max_stride
        self.final_norm = backbone.final_norm
        sizes = _map_sizes(backbone, image_size)
        self.downsample_layers = nn.ModuleList(
            _downsample(layer, layout) for layer in backbone.downsample_layers
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_encoder(e, layout, size) for e in stage))
            for stage, size in zip(backbone.stages, sizes, strict=True)
        )
        names = ['norm'] * (backbone.final_norm is not None)
        for name in [*names, *(f'norm{i}' for i in backbone._normed)]:
            self.add_module(name, _kept_norm(backbone.get_submodule(name), layout))
        self._normed = backbone._normed
        self.requires_grad_(False)
        super().train(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`EdgeNeXt.forward <edgenext_mm.EdgeNeXt.forward>`."""
        self._check(x)
        if self.layout == 'channels_last':
            x = to_channels_last(x)
        outputs: dict[int, Tensor] = {}
        for i, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = stage(downsample(x))
            if i in self.out_indices:
                outputs[i] = EdgeNeXt._output(self, i, x)
        return tuple(outputs[i] for i in self.out_indices)

    _is_pooled = EdgeNeXt._is_pooled

    def _check(self, x: Tensor) -> None:
        size = tuple(x.shape[-2:])
        if self.image_size is not None and size != tuple(self.image_size):
            raise UserError(f'This deploy form is for images of {self.image_size}, got {size}.')
        if min(size) < self.max_stride:
            raise UserError(
                f'EdgeNeXt needs an input of at least {self.max_stride}x{self.max_stride} '
                f'pixels, got {size[0]}x{size[1]}.'
            )

    def train(self, mode: bool = True) -> DeployEdgeNeXt:
        """Refuses training.

        Raises:
            UserError: If ``mode`` is True.
        """
        if mode:
            raise UserError(
                'The deploy form is for inference only: norms and layer scales are folded into '
                'other weights. Train the original model, and switch again.'
            )
        return super().train(False)


def switch_to_deploy(
    model: nn.Module,
    layout: str = 'channels_last',
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """A copy of a model, for inference, with its EdgeNeXt in deploy form.

    Args:
        model: An :class:`~edgenext_mm.EdgeNeXt`, or a model that holds one; not changed.
        layout: See :class:`DeployEdgeNeXt`. Default: ``channels_last``.
        image_size: (H, W) of all images, where they are alike. Default: any.

    Raises:
        UserError: If there is no EdgeNeXt in the model.
    """
    if isinstance(model, EdgeNeXt):
        return DeployEdgeNeXt(model, layout, image_size)
    names = [name for name, module in model.named_modules() if isinstance(module, EdgeNeXt)]
    if not names:
        raise UserError(f'There is no EdgeNeXt in this {type(model).__name__} to deploy.')
    model = copy.deepcopy(model).eval()
    for name in names:
        backbone = model.get_submodule(name)
        model.set_submodule(name, DeployEdgeNeXt(backbone, layout, image_size))
    return model


def _encoder(encoder: Encoder, layout: str, size: tuple[int, int] | None) -> nn.Module:
    if isinstance(encoder, SDTAEncoder):
        return DeploySDTAEncoder(encoder, layout, size)
    return DeployConvEncoder(encoder, layout)


def _normalize(norm: nn.Module, layout: str) -> nn.Module:
    if is_layer_norm(norm):
        return Normalize(norm, layout)
    return nn.Identity()


def _mlp(
    encoder: Encoder, layout: str, norm_is_folded: bool = False
) -> tuple[Pointwise, Pointwise]:
    expand = affine_of(encoder.pwconv1)
    if is_layer_norm(encoder.norm) or not norm_is_folded:
        expand = fold_before(affine_of(encoder.norm), expand)
    project = _scaled(encoder.pwconv2, encoder.gamma)
    return Pointwise(expand, layout, copy.deepcopy(encoder.act)), Pointwise(project, layout)


def _scaled(layer: nn.Linear, gamma: Tensor | None) -> Affine:
    affine = affine_of(layer)
    return affine if gamma is None else fold_after(affine, gamma.detach().double())


def _downsample(layer: nn.Sequential, layout: str) -> nn.Sequential:
    """Stem: convolution, norm. Later ones: norm, perhaps padding, convolution."""
    first, last = layer[0], layer[-1]
    if isinstance(first, nn.Conv2d):
        if is_layer_norm(last):
            return nn.Sequential(copy.deepcopy(first), _kept_norm(last, layout))
        return nn.Sequential(conv_with(first, fold_after(affine_of(first), *affine_of(last))))
    if len(layer) > 2:  # the padding is not shifted
        return nn.Sequential(_kept_norm(first, layout), *copy.deepcopy(layer[1:]))
    conv = conv_with(last, fold_before(affine_of(first), affine_of(last)))
    return nn.Sequential(_normalize(first, layout), conv)


def _kept_norm(norm: nn.Module, layout: str) -> nn.Module:
    """A norm with scale and shift."""
    if is_layer_norm(norm):
        return Normalize(norm, layout, scaled=True)
    return copy.deepcopy(norm)


def _map_sizes(
    backbone: EdgeNeXt, image_size: tuple[int, int] | None
) -> list[tuple[int, int] | None]:
    """(H, W) of each stage's map."""
    if image_size is None:
        return [None] * len(backbone.stages)
    size = image_size
    sizes: list[tuple[int, int] | None] = []
    for layer in backbone.downsample_layers:
        stride = next(m.stride[0] for m in layer if isinstance(m, nn.Conv2d))
        size = (size[0] // stride, size[1] // stride)
        sizes.append(size)
    return sizes
