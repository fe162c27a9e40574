"""Layer-wise learning rate decay for models of any task."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..errors import UserError
from ..models import EdgeNeXt
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with lower learning rates for earlier layers of EdgeNeXt.

    The constructors of mmdet and mmseg only know the layers of a few backbones, and mmpretrain's
    only supports classifiers. This one accepts all settings of ``paramwise_cfg`` that mmengine's
    does, and ``layer_decay_rate``. The learning rate of a backbone parameter is multiplied by
    ``layer_decay_rate ** n``, where n is the number of layers (see
    :meth:`EdgeNeXt.get_layer_depth`) between the parameter and the neck or head.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='edgenext_mm.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0),
        ... )
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Adds the parameters of a model, one group per parameter.

        Args:
            params: The list to which the groups are added.
            module: The model.
            prefix: The name of ``module`` within the model. Default: empty, for the model itself.
            **kwargs: Other arguments of mmengine's method.

        Raises:
            UserError: If ``layer_decay_rate`` is missing or not in (0, 1], the optimizer has no
                ``lr``, or the model has no EdgeNeXt backbone.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return  # mmengine calls this method for each submodule
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise UserError(
                '`optim_wrapper.paramwise_cfg.layer_decay_rate` is a number above 0 and up to 1, '
                f'such as 0.8, but got {rate!r}.'
            )
        backbones = {
            f'{name}.' if name else '': part
            for name, part in module.named_modules()
            if isinstance(part, EdgeNeXt)
        }
        if not backbones:
            raise UserError(
                f'{type(self).__name__} needs a model with an edgenext_mm.EdgeNeXt backbone, which '
                f'this {type(module).__name__} does not have.'
            )
        if 'lr' not in self.optimizer_cfg:
            raise UserError(
                '`optim_wrapper.optimizer.lr` is missing. Layer decay starts from this value.'
            )
        names = {parameter: name for name, parameter in module.named_parameters()}
        for group in params:
            name = group['param_name'] = names[group['params'][0]]
            own_rate = group.get('lr', self.optimizer_cfg['lr'])
            for start, backbone in backbones.items():
                if name.startswith(start):
                    layer, count = backbone.get_layer_depth(name, start)
                    group['lr'] = own_rate * rate ** (count - 1 - layer)
