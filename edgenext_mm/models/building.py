"""Builds the model of a config."""

from __future__ import annotations

from copy import deepcopy

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..config import import_task_library
from .fit import check_fit


def build_model(config: Config) -> nn.Module:
    """The model of a config, its weights not yet loaded.

    Raises:
        UserError: If its parts do not fit together.
    """
    config = deepcopy(config)  # building adds to it
    import_task_library(config.get('default_scope'))
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = config.model
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    built = MODELS.build(model)
    check_fit(built, config)
    return built
