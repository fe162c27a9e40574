from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within what distributes it, if anything does."""
    return model.module if is_model_wrapper(model) else model
