from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the model inside a wrapper such as DistributedDataParallel, or the model itself.

    Args:
        model: The model of a runner.
    """
    return model.module if is_model_wrapper(model) else model
