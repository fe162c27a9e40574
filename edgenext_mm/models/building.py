"""Builds the model of a config."""

from __future__ import annotations

from copy import deepcopy

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..requirements import import_task_library
from .fit import check_fit


def build_model(config: Config) -> nn.Module:
    """Builds the model of a config without loading weights.

    Raises:
        UserError: If backbone, neck and heads do not fit together.
    """
    config = deepcopy(config)  # building modifies it
    import_task_library(config.get('default_scope'))
    init_default_scope(config.get('default_scope', 'mmengine'))
    if 'data_preprocessor' in config:
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(config.model)
    check_fit(model, config)
    return model
