"""Quantization-aware training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import UserError
from ...models.fake_quantization import (
    KINDS,
    ValueRange,
    fold,
    foldable_norms,
    foldable_scales,
    quantize_layers,
)
from ...registry import HOOKS
from ..unwrapped import unwrapped

#: Name of the ranges in the message hub, which checkpoints hold.
_RANGES = 'quantization_ranges'


@HOOKS.register_module()
class QuantizationAwareHook(Hook):
    """Trains with weights and activations rounded to 8 bits.

    Norms and layer scales are folded as in the deploy form, linear layers and convolutions become
    those of :mod:`~edgenext_mm.models.fake_quantization`, and BatchNorm keeps its statistics.
    Checkpoints are those of the usual model, in floating point, and ``--precision int8`` of
    ``tools/deployment/export.py`` calibrates and rounds them as any other. They also hold the
    ranges, so a resumed training goes on exactly. ``tools/train.py --qat`` adds this hook.

    Args:
        keep_float: Kinds of layers that stay in floating point, of ``convolution``, ``depthwise``
            and ``linear``. Default: none.
        scheme: ``symmetric`` or ``asymmetric`` ranges of activations, as the file will have.
            Default: ``symmetric``.
        freeze_ranges: Share of the training after which ranges stay as they are. Default: 0.5.

    Raises:
        UserError: If an argument has another value.
    """

    priority = 'VERY_HIGH'  # the moving average of weights copies the folded ones

    def __init__(
        self,
        keep_float: Sequence[str] = (),
        scheme: str = 'symmetric',
        freeze_ranges: float = 0.5,
    ) -> None:
        if unknown := sorted(set(keep_float) - set(KINDS)):
            raise UserError(f'`keep_float` is of {", ".join(KINDS)}, got {", ".join(unknown)}.')
        if scheme not in ('symmetric', 'asymmetric'):
            raise UserError(f'`scheme` is symmetric or asymmetric, got {scheme!r}.')
        if not 0 < freeze_ranges <= 1:
            raise UserError(f'`freeze_ranges` is in (0, 1], got {freeze_ranges}.')
        self.keep_float = tuple(keep_float)
        self.is_symmetric = scheme == 'symmetric'
        self.freeze_ranges = freeze_ranges
        self._ranges: dict[str, ValueRange] = {}
        self._norms: list[nn.Module] = []
        self._folded: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Folds norms and replaces layers; weights have been loaded."""
        model = unwrapped(runner.model)
        saved = runner.message_hub.runtime_info.get(_RANGES) or {}
        if not saved:  # else the checkpoint holds folded weights
            fold(model)
        folded = [p for norm, _ in foldable_norms(model) for p in (norm.weight, norm.bias)]
        folded += [scale for _, scale in foldable_scales(model)]
        self._folded = [(parameter.data, parameter.data.clone()) for parameter in folded]
        self._norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._ranges = quantize_layers(model, self.keep_float, self.is_symmetric)
        for name, limits in saved.items():
            self._ranges[name].limits.copy_(torch.tensor(limits))
            self._ranges[name].is_known = True
        print_log(
            f'Quantization-aware training: {len(self._ranges) // 2} layers in 8 bits, '
            f'{"symmetric" if self.is_symmetric else "asymmetric"} ranges.',
            'current',
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Keeps statistics, and freezes the ranges at their time."""
        for norm in self._norms:
            norm.eval()
        is_frozen = runner.iter >= self.freeze_ranges * runner.max_iters
        for followed in self._ranges.values():
            followed.is_frozen = is_frozen

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Undoes the step of folded norms and layer scales."""
        for value, original in self._folded:
            value.copy_(original)

    def after_train_epoch(self, runner: Runner) -> None:
        """Shares the ranges between processes."""
        limits = torch.stack([followed.limits for followed in self._ranges.values()])
        all_reduce(limits, 'mean')
        for followed, mean in zip(self._ranges.values(), limits, strict=True):
            followed.limits.copy_(mean)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the ranges to the message hub of the checkpoint."""
        limits = {name: known.limits.tolist() for name, known in self._ranges.items()}
        runner.message_hub.update_info(_RANGES, limits)
        checkpoint['message_hub'] = runner.message_hub.state_dict()
