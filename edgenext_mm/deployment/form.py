"""The deploy form: an equivalent EdgeNeXt with fewer and larger operators, for inference only.

This file documents all choices of the deploy form, in reading order: what is folded, the layouts
and where each is used, and when oneDNN runs a layer.

**Folding**, computed in double precision when a model is switched:

- Scale and shift of a LayerNorm move into the linear layer or convolution after it; only the
  normalisation remains. Norms without such a layer keep both: in the stem, at the outputs, and
  before a convolution that pads, since the padding would not be shifted.
- BatchNorm, with its running statistics, moves into the convolution before it or the linear layer
  after it. In front of the attention it also feeds a residual, and remains as one scale and shift.
- Layer scales move into the last linear layer of their branch. Drop path is removed.
- The temperature of the attention becomes a divisor of the queries. OpenVINO would take a factor
  for the scale of standard attention.
- The positional encoding projects rows and columns separately and adds them, which needs H + W
  products of vectors instead of H * W. For a fixed image size they are two constants.

**Layouts**: see :data:`LAYOUTS` and :data:`LAYOUT_BY_FORMAT`.

**oneDNN**: see :data:`ONEDNN_MIN_MADDS` and :meth:`Pointwise._uses_onednn`.

Nothing is cached between calls: a weight that is changed in place, here or in the original model
before the switch, is used at the next call or switch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from ..errors import UserError
from ..models import EdgeNeXt
from ..models.folding import Affine, affine_of, conv_with, fold_after, fold_before
from ..models.layers import (
    ConvEncoder,
    LayerNorm2d,
    PositionalEncodingFourier,
    SDTAEncoder,
    axis_features,
    multi_scale,
    to_channels_last,
)

#: How channels are mixed, and how a LayerNorm reaches the channels of a position. All maps are
#: (B, C, H, W) tensors.
#:
#: - ``channels_last``: linear layers on channels-last memory; the norm needs no copy.
#: - ``channels_first``: 1x1 convolutions; the norm transposes the map.
#: - ``channels_first_tokens``: 1x1 convolutions; the norm transposes the (B, C, N) tokens.
#: - ``portable``: like ``channels_first``, of operators that all converters translate correctly.
#: - ``xnnpack``: like ``portable``, of operators that XNNPACK has: the norm by 1x1 convolutions.
#:   For float32 only.
LAYOUTS = ('channels_last', 'channels_first', 'channels_first_tokens', 'portable', 'xnnpack')
#: The layout of each format. The first four were measured to be fastest (docs/speed.md): ONNX
#: Runtime turns ``channels_first`` into its blocked layout; OpenVINO removes the transposes of
#: tokens, and those of maps make it much slower. The others are needed for correct results.
LAYOUT_BY_FORMAT = {
    'onnx': 'channels_first',
    'openvino': 'channels_first_tokens',
    'torchscript': 'channels_last',
    'torch-export': 'channels_last',
    'ncnn': 'portable',
    'litert': 'portable',
    'coreml': 'portable',
    'executorch': 'xnnpack',
}
#: Multiply-adds of a linear layer from which oneDNN's fused operator was measured to be faster than
#: separate operators for product, activation and residual.
ONEDNN_MIN_MADDS = 50e6


class Normalize(nn.Module):
    """LayerNorm over channels, by default without its scale and shift.

    Args:
        norm: The trained norm.
        layout: One of :data:`LAYOUTS`.
        scaled: Whether to keep scale and shift. Default: False.
    """

    def __init__(self, norm: LayerNorm2d, layout: str, scaled: bool = False) -> None:
        super().__init__()
        self.shape = norm.normalized_shape
        self.eps = norm.eps
        self.layout = layout
        for name in ('weight', 'bias'):
            value = getattr(norm, name).detach().clone() if scaled else None
            self.register_buffer(name, value)
        if layout == 'xnnpack':
            (dim,) = self.shape
            self.register_buffer('mean', torch.full((1, dim, 1, 1), 1 / dim))

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        weight, bias = self.weight, self.bias
        if self.layout == 'channels_first_tokens':
            t = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
            t = F.layer_norm(t, self.shape, weight, bias, self.eps)
            return t.transpose(1, 2).unflatten(2, x.shape[2:])
        if self.layout == 'xnnpack':
            return self._convolve(x)
        x = x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        if self.layout in ('channels_last', 'portable') or weight is None:
            return F.layer_norm(x, self.shape, weight, bias, self.eps).permute(0, 3, 1, 2)
        x = F.layer_norm(x, self.shape, eps=self.eps).permute(0, 3, 1, 2)
        # ONNX Runtime's blocked layout includes convolutions, but not products.
        return F.conv2d(x, weight.view(-1, 1, 1, 1), bias, groups=len(weight))

    def _convolve(self, x: Tensor) -> Tensor:
        x = x - F.conv2d(x, self.mean)
        x = x * (F.conv2d(x * x, self.mean) + self.eps).rsqrt()
        if self.weight is None:
            return x
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Pointwise(nn.Module):
    """A linear layer over channels, followed by an activation or a residual.

    No operator works in place: converters of traced models lose what is written to a view.

    Args:
        affine: (O, I) weight and (O,) bias.
        layout: One of :data:`LAYOUTS`.
        act: The activation. Default: None.
    """

    def __init__(self, affine: Affine, layout: str, act: nn.Module | None = None) -> None:
        super().__init__()
        weight = affine.weight.float()
        if layout != 'channels_last':  # a parameter: some converters need constants as weights
            weight = weight[..., None, None].contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(affine.bias.float(), requires_grad=False)
        self.act = act
        self.layout = layout

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps a (B, I, H, W) map to (B, O, H, W), plus a residual of that shape."""
        if self.layout == 'channels_last':
            tokens = x.permute(0, 2, 3, 1)  # (B, I, H, W) -> (B, H, W, I)
            if self._uses_onednn(x):
                return self._onednn(tokens, residual).permute(0, 3, 1, 2)
            y = F.linear(tokens, self.weight, self.bias)
        else:
            y = F.conv2d(x, self.weight, self.bias)
        if self.act is not None:
            y = self.act(y)
        if self.layout == 'channels_last':
            y = y.permute(0, 3, 1, 2)  # (B, H, W, O) -> (B, O, H, W)
        return y if residual is None else residual + y

    def _uses_onednn(self, x: Tensor) -> bool:
        """Whether oneDNN's fused operator can replace eager float32 on a CPU, and is faster."""
        return (
            x.numel() * len(self.weight) >= ONEDNN_MIN_MADDS
            and x.device.type == 'cpu'
            and x.dtype == torch.float32
            and (self.act is None or type(self.act) in (nn.GELU, nn.Hardswish))
            and torch.backends.mkldnn.is_available()
            and not torch.is_grad_enabled()  # the operator has no gradient
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
        )

    def _onednn(self, tokens: Tensor, residual: Tensor | None) -> Tensor:
        """Maps (B, H, W, I) tokens to (B, H, W, O) with the operators of PyTorch's compiler."""
        B, H, W, _ = tokens.shape
        tokens, operator = tokens.flatten(0, 2), torch.ops.mkldnn._linear_pointwise
        if residual is not None:
            residual = residual.permute(0, 2, 3, 1).flatten(0, 2)
            y = operator.binary(tokens, residual, self.weight, self.bias, 'add')
        elif self.act is None:
            y = operator(tokens, self.weight, self.bias, 'none', [], '')
        elif isinstance(self.act, nn.GELU):
            y = operator(tokens, self.weight, self.bias, 'gelu', [], self.act.approximate)
        else:
            y = operator(tokens, self.weight, self.bias, 'hardswish', [], '')
        return y.view(B, H, W, -1)


class Position(nn.Module):
    """The positional encoding, for a fixed map size or for any.

    Args:
        encoding: The trained encoding.
        size: (H, W) of the map if it is fixed. Default: None.
    """

    def __init__(
        self, encoding: PositionalEncodingFourier, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.hidden_dim = encoding.hidden_dim
        self.temperature = encoding.temperature
        weight, bias = affine_of(encoding.token_projection)
        rows, columns = weight.flatten(1).float().split(self.hidden_dim, dim=1)
        self.rows = nn.Parameter(rows.contiguous(), requires_grad=False)
        self.columns = nn.Parameter(columns.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)
        y, x = self._encode(*size) if size else (None, None)
        self.register_buffer('y', y)
        self.register_buffer('x', x)
        if size is not None:
            del self.rows, self.columns, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Adds the encoding to a (B, C, H, W) map."""
        if self.y is not None:  # not added to each other: their sum would be as large as the map
            return x + self.y + self.x
        rows, columns = self._encode(x.shape[-2], x.shape[-1])
        return x + (rows + columns)

    def _encode(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Returns the encoding of rows, (C, H, 1), and that of columns, (C, 1, W)."""
        y = F.linear(self._features(height), self.rows, self.bias)
        x = F.linear(self._features(width), self.columns)
        return y.T.contiguous()[:, :, None], x.T.contiguous()[:, None, :]

    def _features(self, length: int) -> Tensor:
        features = axis_features(length, self.hidden_dim, self.temperature, self.rows.device)
        return features.to(self.rows.dtype)


class DeployConvEncoder(nn.Module):
    """The deploy form of :class:`~edgenext_mm.models.layers.ConvEncoder`.

    Args:
        encoder: The trained encoder.
        layout: One of :data:`LAYOUTS`.
    """

    def __init__(self, encoder: ConvEncoder, layout: str) -> None:
        super().__init__()
        conv, expand = affine_of(encoder.dwconv), affine_of(encoder.pwconv1)
        if isinstance(encoder.norm, LayerNorm2d) or encoder.downsamples:
            expand = fold_before(affine_of(encoder.norm), expand)
        else:
            conv = fold_after(conv, *affine_of(encoder.norm))
        self.downsamples = encoder.downsamples
        self.dwconv = conv_with(encoder.dwconv, conv)
        self.norm = _normalize(encoder.norm, layout)
        self.expand = Pointwise(expand, layout, copy.deepcopy(encoder.act))
        self.project = Pointwise(_scaled(encoder.pwconv2, encoder.gamma), layout)

    def forward(self, x: Tensor) -> Tensor:
        """Does the same as the trained encoder."""
        t = self.dwconv(x)
        return self.project(self.expand(self.norm(t)), t if self.downsamples else x)


class DeploySDTAEncoder(nn.Module):
    """The deploy form of :class:`~edgenext_mm.models.layers.SDTAEncoder`.

    Args:
        encoder: The trained encoder.
        layout: One of :data:`LAYOUTS`.
        size: (H, W) of the map if it is fixed, else None.
    """

    def __init__(self, encoder: SDTAEncoder, layout: str, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.dim = encoder.xca.proj.in_features
        self.widths = encoder.widths
        self.num_heads = encoder.xca.num_heads
        self.layout = layout
        self.is_portable = layout in ('portable', 'xnnpack')
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
        temperature = encoder.xca.temperature.detach().float()
        if self.is_portable:  # one for each channel
            temperature = temperature.repeat_interleave(self.dim // self.num_heads)
            self.register_buffer('temperature', temperature.view(1, -1, 1, 1))
        else:
            self.register_buffer('inverse_temperature', 1 / temperature)
        self.proj = Pointwise(_scaled(encoder.xca.proj, encoder.gamma_xca), layout)
        self.norm = _normalize(encoder.norm, layout)
        expand = fold_before(affine_of(encoder.norm), affine_of(encoder.pwconv1))
        self.expand = Pointwise(expand, layout, copy.deepcopy(encoder.act))
        self.project = Pointwise(_scaled(encoder.pwconv2, encoder.gamma), layout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a (B, C, H, W) map to one of the same shape."""
        t = multi_scale(self._split(x, self.widths), self.convs)
        if self.scale is not None:
            # Core ML and ncnn have no addcmul, which is one pass over memory instead of two.
            t = (
                t * self.scale + self.shift
                if self.is_portable
                else torch.addcmul(self.shift, t, self.scale)
            )
        if self.position is not None:
            t = self.position(t)
        t = self.proj(self._attend(self.qkv(self.norm_xca(t))), t)
        return self.project(self.expand(self.norm(t)), x)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Maps (B, 3 C, H, W) queries, keys and values to (B, C, H, W)."""
        if self.is_portable:
            return self._attend_portably(qkv)
        B, C, H, W = qkv.shape
        qkv = qkv.reshape(B, 3, self.num_heads, C // 3 // self.num_heads, H * W)
        q, k, v = qkv.unbind(1)  # each (B, h, d, N)
        attention = _unit(q, self.inverse_temperature) @ _unit(k).transpose(-2, -1)
        return (attention.softmax(dim=-1) @ v).reshape(B, C // 3, H, W)

    def _attend_portably(self, qkv: Tensor) -> Tensor:
        """Does the same with operators that all converters have."""
        H, W = qkv.shape[-2:]
        width = self.dim // self.num_heads
        q, k, v = self._split(qkv, [self.dim] * 3)  # each (B, C, H, W)
        scale = self.temperature / (H * W)  # |q| |k| = H W sqrt(mean(q^2) mean(k^2))
        q, k = self._unit_power(q) * scale, self._unit_power(k)
        if self.layout == 'xnnpack':  # it multiplies batches of matrices; others see the images
            q, k, v = (t.reshape(-1, width, H * W) for t in (q, k, v))
            attention = torch.bmm(q, k.transpose(1, 2)).softmax(dim=2)
            return torch.bmm(attention, v).reshape(-1, self.dim, H, W)
        q, k, v = (t.reshape(-1, self.num_heads, width, H * W) for t in (q, k, v))
        attention = (q @ k.transpose(2, 3)).softmax(dim=3)
        return (attention @ v).reshape(-1, self.dim, H, W)

    def _unit_power(self, x: Tensor) -> Tensor:
        """Scales each channel of a (B, C, H, W) map so that the mean of its squares is 1.

        By its maximum first: in half precision, the squares of large values overflow. XNNPACK has
        no maximum, and its files are in float32. By divisions: Core ML adds 1e-4 in an inverse.
        """
        if self.layout != 'xnnpack':
            x = x / (x.abs().amax((2, 3), keepdim=True) + 1e-7)
        return x / (F.adaptive_avg_pool2d(x * x, 1).sqrt() + 1e-7)

    def _split(self, x: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
        """Splits a (B, C, H, W) map along the channels."""
        if self.layout != 'xnnpack':
            return x.split(widths, dim=1)
        ends = list(accumulate(widths))
        return [x[:, end - width : end] for width, end in zip(widths, ends, strict=True)]


def _unit(x: Tensor, divisor: Tensor | float = 1.0) -> Tensor:
    """Scales ``x`` to L2 norm ``1 / divisor`` along the last axis.

    Norm and division are in float32 at least: in half precision, squares overflow, and the norm
    itself can.
    """
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    length = torch.linalg.vector_norm(precise, dim=-1, keepdim=True).clamp_min(1e-12)
    return (precise / (length * divisor)).to(x.dtype)


class DeployEdgeNeXt(nn.Module):
    """:class:`~edgenext_mm.EdgeNeXt` for inference, with the same inputs and outputs.

    Args:
        backbone: The trained backbone; it is not changed.
        layout: One of :data:`LAYOUTS`. Default: ``channels_last``.
        image_size: (H, W) of all images in pixels, if it is fixed. Default: None, any size.

    Raises:
        UserError: If the layout is unknown, or the backbone is pruned, parametrized, quantized or
            has hooks.
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
        _check_model(backbone)
        self.arch = backbone.arch
        self.layout = layout
        self.image_size = image_size
        self.out_indices = backbone.out_indices
        self.max_stride = backbone.max_stride
        self.final_norm = backbone.final_norm
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        size = image_size
        for downsample, stage in zip(backbone.downsample_layers, backbone.stages, strict=True):
            self.downsample_layers.append(_downsample(downsample, layout))
            if size is not None:
                size = _reduced(size, downsample, stage[0])
            encoders: list[nn.Module] = [
                DeploySDTAEncoder(e, layout, size)
                if isinstance(e, SDTAEncoder)
                else DeployConvEncoder(e, layout)
                for e in stage
            ]
            self.stages.append(nn.Sequential(*encoders))
        names = ['norm'] * (backbone.final_norm is not None)
        for name in [*names, *(f'norm{i}' for i in backbone._normed)]:
            self.add_module(name, _kept_norm(backbone.get_submodule(name), layout))
        self._normed = backbone._normed
        self.requires_grad_(False)
        super().train(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the same as :meth:`EdgeNeXt.forward <edgenext_mm.EdgeNeXt.forward>`."""
        self._check_size(x)
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

    def _check_size(self, x: Tensor) -> None:
        size = tuple(x.shape[-2:])
        if self.image_size is not None and size != tuple(self.image_size):
            raise UserError(
                f'This deploy form is for images of {self.image_size}, got {size}. Resize the '
                'images, or switch the model with image_size=None.'
            )
        if min(size) < self.max_stride:
            raise UserError(
                f'EdgeNeXt needs an input of at least {self.max_stride}x{self.max_stride} '
                f'pixels, got {size[0]}x{size[1]}.'
            )

    def train(self, mode: bool = True) -> DeployEdgeNeXt:
        """Refuses training mode.

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
    """Copies a model and replaces the EdgeNeXt in it by its deploy form.

    Args:
        model: An :class:`~edgenext_mm.EdgeNeXt`, or a model that contains one; it is not changed.
        layout: One of :data:`LAYOUTS`. Default: ``channels_last``.
        image_size: (H, W) of all images in pixels, if it is fixed. Default: None, any size.

    Returns:
        The copy, in evaluation mode.

    Raises:
        UserError: If the model contains no EdgeNeXt; if any part of it is pruned or parametrized;
            or if the EdgeNeXt is quantized or has hooks.
    """
    _check_model(model)
    if isinstance(model, EdgeNeXt):
        return DeployEdgeNeXt(model, layout, image_size)
    names = [name for name, module in model.named_modules() if isinstance(module, EdgeNeXt)]
    if not names:
        raise UserError(
            f'This {type(model).__name__} contains no EdgeNeXt. Only models with an EdgeNeXt '
            'backbone have a deploy form.'
        )
    model = copy.deepcopy(model)
    model.eval()  # that of some detectors returns None
    for name in names:
        backbone = model.get_submodule(name)
        model.set_submodule(name, DeployEdgeNeXt(backbone, layout, image_size))
    return model


def _check_model(model: nn.Module) -> None:
    """Refuses weights that are computed at each call, and what is lost in the deploy form."""
    backbones = [module for module in model.modules() if isinstance(module, EdgeNeXt)]
    replaced = {module for backbone in backbones for module in backbone.modules()}
    for name, module in model.named_modules():
        where = f'`{name}`' if name else f'This {type(module).__name__}'
        pre_hooks = module._forward_pre_hooks.values()
        pruned = [hook._tensor_name for hook in pre_hooks if isinstance(hook, BasePruningMethod)]
        if pruned:
            raise UserError(
                f'{where} is pruned: its `{pruned[0]}` is computed at each call. Make the pruning '
                f'permanent with torch.nn.utils.prune.remove(module, {pruned[0]!r}).'
            )
        if parametrize.is_parametrized(module):
            tensor = next(iter(module.parametrizations))
            raise UserError(
                f'{where} is parametrized: its `{tensor}` is computed at each call. Make it plain '
                f'with torch.nn.utils.parametrize.remove_parametrizations(module, {tensor!r}).'
            )
        if module not in replaced:
            continue
        if '.quantized.' in type(module).__module__:
            raise UserError(
                f'{where} is quantized ({type(module).__module__}.{type(module).__name__}). Switch '
                'the float model and quantize the result, or export with --precision int8.'
            )
        if hooks := [*pre_hooks, *module._forward_hooks.values()]:
            hook = getattr(hooks[0], '__name__', type(hooks[0]).__name__)
            raise UserError(
                f'{where} has a forward hook ({hook}), which the deploy form would not run. Remove '
                'it with `handle.remove()` before you switch or export.'
            )


def _normalize(norm: nn.Module, layout: str) -> nn.Module:
    """What remains of a norm whose scale and shift are folded; of a BatchNorm, nothing."""
    return Normalize(norm, layout) if isinstance(norm, LayerNorm2d) else nn.Identity()


def _scaled(layer: nn.Linear, gamma: Tensor | None) -> Affine:
    affine = affine_of(layer)
    return affine if gamma is None else fold_after(affine, gamma.detach().double())


def _reduced(size: tuple[int, int], *modules: nn.Module) -> tuple[int, int]:
    """Returns the (H, W) of a map after the strides of convolutions; overlapping ones round up."""
    convs = [conv for module in modules for conv in module.modules() if isinstance(conv, nn.Conv2d)]
    for conv in convs:
        stride = conv.stride[0]
        padding = stride - 1 if conv.padding[0] else 0
        size = (size[0] + padding) // stride, (size[1] + padding) // stride
    return size


def _downsample(layer: nn.Module, layout: str) -> nn.Module:
    if isinstance(layer, nn.Identity):  # the first encoder of the stage lowers the resolution
        return nn.Identity()
    first, last = layer[0], layer[-1]
    if isinstance(first, nn.Conv2d):  # stem: convolution, norm
        if isinstance(last, LayerNorm2d):
            return nn.Sequential(copy.deepcopy(first), _kept_norm(last, layout))
        return nn.Sequential(conv_with(first, fold_after(affine_of(first), *affine_of(last))))
    if len(layer) > 2:  # norm, padding, convolution
        return nn.Sequential(_kept_norm(first, layout), *copy.deepcopy(layer[1:]))
    conv = conv_with(last, fold_before(affine_of(first), affine_of(last)))
    return nn.Sequential(_normalize(first, layout), conv)


def _kept_norm(norm: nn.Module, layout: str) -> nn.Module:
    """A norm that keeps its scale and shift."""
    if isinstance(norm, LayerNorm2d):
        return Normalize(norm, layout, scaled=True)
    return copy.deepcopy(norm)
