"""Models to compare, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS, EdgeNeXt
from edgenext_mm.models.building import build_model
from edgenext_mm.requirements import require_task_library

#: timm's names of the variants that it has.
TIMM_NAMES = {
    'xxsmall': 'edgenext_xx_small',
    'xsmall': 'edgenext_x_small',
    'small': 'edgenext_small',
    'base': 'edgenext_base',
    'small_rw': 'edgenext_small_rw',
}


class EdgeNeXtClassifier(nn.Module):
    """A classifier made of the backbone and a linear layer, like timm's models.

    Args:
        arch: Architecture, see :class:`~edgenext_mm.EdgeNeXt`.
        num_classes: Number of classes. Default: 1000.
        with_cp: Whether activations are recomputed in training. Default: False.
    """

    def __init__(
        self, arch: str | Mapping[str, Any], num_classes: int = 1000, with_cp: bool = False
    ) -> None:
        super().__init__()
        self.backbone = EdgeNeXt(arch, final_norm='auto', with_cp=with_cp)
        self.head = nn.Linear(self.backbone.arch.dims[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, 3, H, W) images to (B, num_classes) logits."""
        return self.head(self.backbone(x)[-1])


def build_named(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """Builds a model with random weights.

    Args:
        name: An arch of EdgeNeXt, ``ARCH:with_cp`` to recompute activations in training,
            ``timm:NAME``, ``mmpretrain:NAME``, or the path or name of a config.
        options: Settings that override the config. Default: none.

    Raises:
        UserError: If the model is unknown.
    """
    if name in ARCHS:
        return EdgeNeXtClassifier(name)
    source, _, rest = name.partition(':')
    if source in ARCHS and rest == 'with_cp':
        return EdgeNeXtClassifier(source, with_cp=True)
    if source == 'timm' and rest:
        return _build_timm(rest)
    if source == 'mmpretrain' and rest:
        return _build_mmpretrain(rest)
    try:
        path = find_config(name)
    except UserError as error:
        raise UserError(
            f'Unknown model {name!r}. Give an arch ({", ".join(ARCHS)}), timm:NAME, '
            'mmpretrain:NAME, or the path of a config.'
        ) from error
    return build_model(load_config(path, dict(options or {})))


def _build_timm(name: str) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f'timm:{name} needs timm, which is not installed: `pip install timm`.'
        ) from error
    _check_known(name, 'timm', timm.list_models)
    return timm.create_model(name)


def _build_mmpretrain(name: str) -> nn.Module:
    require_task_library('mmpretrain')
    from mmpretrain import get_model, list_models

    _check_known(name, 'mmpretrain', list_models)
    return get_model(name, pretrained=False)


def _check_known(name: str, library: str, list_models: Callable[[str], list[str]]) -> None:
    if name not in list_models(name):
        near = ', '.join(list_models(f'*{name.split("_")[0]}*')[:8]) or 'none'
        raise UserError(f'{library} has no model {name!r}. Similar names: {near}.')
