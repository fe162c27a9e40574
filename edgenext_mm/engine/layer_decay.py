"""Learning rates that decay towards the stem, for models of any task."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..errors import UserError
from ..models import EdgeNeXt
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with a lower learning rate for each earlier layer of EdgeNeXt.

    The constructors of mmdet and mmseg know the layers of a few backbones by name; mmpretrain's
    serves classifiers only. This one takes all settings of ``paramwise_cfg`` that mmengine's does,
    and ``layer_decay_rate``: the rate of a parameter of the backbone is multiplied by
    ``layer_decay_rate ** n``, with n layers (see :meth:`EdgeNeXt.get_layer_depth`) between it and
    the neck or head, whose rate stays.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='edgenext_mm.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0),
        ... )
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Adds the parameters of a model, one group each.

        Raises:
            UserError: If ``layer_decay_rate`` is missing or not above 0 and up to 1, the optimiser
                has no ``lr``, or the model holds no EdgeNeXt.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return  # called for each part of the model
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise UserError(
                '`optim_wrapper.paramwise_cfg.layer_decay_rate` is a number above 0 and up to 1, '
                f'such as 0.8, got {rate!r}.'
            )
        backbones = {
            f'{name}.' if name else '': part
            for name, part in module.named_modules()
            if isinstance(part, EdgeNeXt)
        }
        if not backbones:
            raise UserError(
                f'{type(self).__name__} is for models with a backbone edgenext_mm.EdgeNeXt, which '
                f'this {type(module).__name__} has not.'
            )
        if 'lr' not in self.optimizer_cfg:
            raise UserError('`optim_wrapper.optimizer.lr` is missing: layers decay from it.')
        names = {parameter: name for name, parameter in module.named_parameters()}
        for group in params:
            name = group['param_name'] = names[group['params'][0]]
            own_rate = group.get('lr', self.optimizer_cfg['lr'])
            for start, backbone in backbones.items():
                if name.startswith(start):
                    layer, count = backbone.get_layer_depth(name, start)
                    group['lr'] = own_rate * rate ** (count - 1 - layer)
