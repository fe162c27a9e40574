"""How good a model, or a file that was exported from one, is on a config's test data."""

from __future__ import annotations

from mmengine.config import Config
from torch import nn

from ..checkpoints.finding import read_checkpoint
from ..engine import unwrapped
from ..models.loading import check_weights, weights_of
from .data import check_data
from .runner import build_runner


def run_test(config: Config, model: nn.Module | None = None) -> dict[str, float]:
    """The metrics of mmengine's test loop.

    Args:
        config: A full config, with a ``work_dir``; changed.
        model: What to test. Default: the config's model with the weights of its ``load_from``.

    Raises:
        UserError: If the data is not there, or the weights do not fit.
    """
    check_data(config, 'test')
    config.resume = False  # of a training
    if model is not None:
        config.load_from = None
        config.custom_hooks = []  # such as moving averages, which copy the model
    runner = build_runner(config)
    if model is not None:
        runner.model = model
    else:
        # The runner itself would only warn of weights that do not fit.
        own = unwrapped(runner.model)
        check_weights(own, weights_of(read_checkpoint(config.load_from), own), config.load_from)
    return runner.test()
