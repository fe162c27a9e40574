"""Layers whose weights, inputs and outputs are rounded to 8 bits, for quantization-aware training.

The layers hold the same parameters under the same names as those that they replace, so checkpoints
can be exchanged. Weights have one symmetric range per output channel; inputs and outputs have one
range, a moving average of the smallest and largest value of each batch. Gradients pass the rounding
unchanged (Jacob et al., https://arxiv.org/abs/1712.05877).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .edgenext import EdgeNeXt
from .folding import affine_of, fold_after, fold_before
from .layers import Encoder, PositionalEncodingFourier, SDTAEncoder

#: Kinds of layers that can stay in floating point.
KINDS = ('convolution', 'depthwise', 'linear')
#: Share of a batch in the moving average of ranges.
_MOMENTUM = 0.05


class ValueRange(nn.Module):
    """Rounds a tensor to 8 bits in a range that follows its values.

    Args:
        symmetric: Whether the range is centred at 0. Default: True.
    """

    limits: Tensor

    def __init__(self, symmetric: bool = True) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.is_known = False
        self.is_frozen = False
        # Not in the state dict: the keys stay those of the model.
        self.register_buffer('limits', torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the same shape and dtype; without a known range, the input."""
        if self.training and not self.is_frozen:
            self._follow(x.detach())
        if not self.is_known:
            return x
        low, high = self.limits
        if self.symmetric:
            scale = torch.maximum(-low, high) / 127
            zero, bounds = torch.zeros_like(scale), (-128, 127)
        else:
            scale, bounds = (high - low) / 255, (0, 255)
            zero = -low / scale.clamp_min(1e-12)
        scale, zero = scale.clamp_min(1e-12), zero.round().int()
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, *bounds).to(x.dtype)

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        low, high = x.float().aminmax()
        # The range holds 0, which padding needs.
        found = torch.stack((low.clamp(max=0), high.clamp(min=0)))
        self.limits.lerp_(found, _MOMENTUM if self.is_known else 1.0)
        self.is_known = True


def quantized_weight(weight: Tensor) -> Tensor:
    """Rounds an (O, ...) weight to 8 bits, with one range per output channel."""
    scale = weight.detach().flatten(1).abs().amax(1).float() / 127
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight.float(), scale.clamp_min(1e-12), zero, 0, -127, 127
    ).to(weight.dtype)


class QuantizedLinear(nn.Linear):
    """A linear layer in 8 bits."""

    input_range: ValueRange
    output_range: ValueRange

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., I) to (..., O)."""
        weight = quantized_weight(self.weight)
        return self.output_range(F.linear(self.input_range(x), weight, self.bias))


class QuantizedConv2d(nn.Conv2d):
    """A convolution in 8 bits."""

    input_range: ValueRange
    output_range: ValueRange

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, I, H, W) to (B, O, H', W')."""
        weight = quantized_weight(self.weight)
        return self.output_range(self._conv_forward(self.input_range(x), weight, self.bias))


def quantize_layers(
    model: nn.Module, keep_float: Sequence[str] = (), symmetric: bool = True
) -> dict[str, ValueRange]:
    """Replaces the linear layers and convolutions of a model by layers in 8 bits, in place.

    Parameters stay the same objects, so an optimizer keeps them. Subclasses of the two layers are
    left as they are.

    Args:
        model: The model.
        keep_float: Kinds that stay in floating point, of :data:`KINDS`. Default: none.
        symmetric: Whether the ranges of inputs and outputs are centred at 0. Default: True.

    Returns:
        The ranges by name.
    """
    ranges: dict[str, ValueRange] = {}
    constants = {  # files hold the positional encoding, not its projection
        module.token_projection
        for module in model.modules()
        if isinstance(module, PositionalEncodingFourier)
    }
    for name, layer in list(model.named_modules()):
        if type(layer) not in (nn.Linear, nn.Conv2d) or layer in constants:
            continue
        if kind_of(layer) in keep_float:
            continue
        # A change of class, as by torch.nn.utils.parametrize, keeps parameters, names and hooks.
        layer.__class__ = QuantizedLinear if isinstance(layer, nn.Linear) else QuantizedConv2d
        for part in ('input_range', 'output_range'):
            followed = ValueRange(symmetric).to(layer.weight.device).train(layer.training)
            layer.add_module(part, followed)
            ranges[f'{name}.{part}'] = followed
    return ranges


def kind_of(layer: nn.Module) -> str:
    """Returns the kind of a linear layer or convolution, of :data:`KINDS`."""
    if isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1):
        return 'linear'
    return 'depthwise' if layer.groups > 1 else 'convolution'


@torch.no_grad()
def fold(model: nn.Module) -> None:
    """Moves norms and layer scales of each EdgeNeXt into the layers beside them, in place.

    Outputs stay the same, but for rounding; BatchNorm must keep its statistics. The deploy form
    does the same, so weights that are rounded here are rounded in the same way in a file.

    Args:
        model: A model that contains an :class:`~edgenext_mm.EdgeNeXt`.
    """
    for norm, layer in foldable_norms(model):
        folded = fold_before(affine_of(norm), affine_of(layer))
        layer.weight.copy_(folded.weight)
        layer.bias.copy_(folded.bias)
        is_batch_norm = isinstance(norm, _BatchNorm)  # it becomes the inverse of its statistics
        norm.weight.copy_((norm.running_var + norm.eps).sqrt() if is_batch_norm else torch.ones(()))
        norm.bias.copy_(norm.running_mean if is_batch_norm else torch.zeros(()))
    for layer, scale in foldable_scales(model):
        folded = fold_after(affine_of(layer), scale.double())
        layer.weight.copy_(folded.weight)
        layer.bias.copy_(folded.bias)
        scale.fill_(1)


def foldable_norms(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yields the norms that the deploy form folds into the layers after them, and these layers."""
    for module in model.modules():
        # In a Conv. encoder, BatchNorm belongs to the convolution before it, unless that also feeds
        # the residual connection.
        is_split = isinstance(module, SDTAEncoder) or getattr(module, 'downsamples', False)
        if isinstance(module, Encoder) and (is_split or not isinstance(module.norm, _BatchNorm)):
            yield module.norm, module.pwconv1
        if isinstance(module, SDTAEncoder) and not module.norm_xca_is_residual:
            yield module.norm_xca, module.xca.qkv
        if isinstance(module, EdgeNeXt):
            layers = [m for m in module.downsample_layers[1:] if not isinstance(m, nn.Identity)]
            for first, *others in layers:
                # No padding between norm and convolution, and a bias that takes the shift.
                if len(others) == 1 and others[0].bias is not None:
                    yield first, others[0]


def foldable_scales(model: nn.Module) -> Iterator[tuple[nn.Linear, nn.Parameter]]:
    """Yields the layers whose outputs are scaled, and their layer scales."""
    for module in model.modules():
        if isinstance(module, Encoder) and module.gamma is not None:
            yield module.pwconv2, module.gamma
        if isinstance(module, SDTAEncoder) and module.gamma_xca is not None:
            yield module.xca.proj, module.gamma_xca
