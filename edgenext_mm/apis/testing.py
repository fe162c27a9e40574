"""How good a model, or a file that was exported from one, is on a config's test data."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from ..check_settings import is_checked
from ..checkpoints.finding import read_checkpoint
from ..datasets.checks.config_data import check_data, find_source, leaves
from ..datasets.checks.findings import listing
from ..engine.runner import build_runner
from ..engine.unwrapped import unwrapped
from ..errors import UserError
from ..models.loading import check_weights, weights_of


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
        _check_classes(config, getattr(model, 'dataset_meta', {}))
        runner.model = model
    else:
        # The runner itself would only warn of weights that do not fit.
        own, content = unwrapped(runner.model), read_checkpoint(config.load_from)
        check_weights(own, weights_of(content, own), config.load_from)
        _check_classes(config, (content.get('meta') or {}).get('dataset_meta') or {})
    return runner.test()


def _check_classes(config: Config, trained: Mapping[str, Any]) -> None:
    """Compares the classes that a model was trained on with those of the test data.

    Raises:
        UserError: If they are the same in another order, unless the config's ``checks`` leave the
            classes out. Other names are a warning.
    """
    if not is_checked(config, 'classes'):
        return
    known = trained.get('classes')
    for dataset in leaves(config.test_dataloader.dataset):
        source = find_source(config, dataset)
        given = source.classes if source else None
        if not known or not given or tuple(known) == tuple(given):
            continue
        message = (
            f'The model was trained on the classes {listing(known)}, but the test data have '
            f'{listing(given)}'
        )
        if sorted(known) == sorted(given):
            raise UserError(
                f'{message}: the same in another order, so that each class would be taken for '
                'another one. Give the data set `metainfo=dict(classes=(...))` in the order of the '
                'training; `checks = dict(classes=False)` leaves out this check.'
            )
        print_log(f'{message}.', 'current', logging.WARNING)
