"""Metrics of a model or an exported file on the test data of a config."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
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
from .model import load_model


def run_test(
    config: Config, model: nn.Module | None = None, metrics: Sequence[BaseMetric] = ()
) -> dict[str, float]:
    """Runs mmengine's test loop and returns its metrics.

    Args:
        config: A complete config with a ``work_dir``; it is changed.
        model: The model to test. Default: the model of the config with the weights of its
            ``load_from``.
        metrics: Metrics besides those of the config. Default: none.

    Raises:
        UserError: If the data is missing, or the task, weights or classes do not fit.
    """
    check_data(config, 'test')
    config.resume = False  # the setting is for training
    if model is not None:
        scopes = [
            settings.get('default_scope') for settings in (getattr(model, 'cfg', config), config)
        ]
        if scopes[0] != scopes[1]:
            raise UserError(
                f'The model is for {scopes[0]}, but the config is for {scopes[1]}. Give the config '
                'from which the file was exported.'
            )
        config.load_from = None
        config.custom_hooks = []  # some copy the model, such as moving averages
    runner = build_runner(config)
    if model is not None:
        trained = getattr(model, 'dataset_meta', {})
        runner.model = model
    else:
        # The runner itself would only warn about weights that do not fit.
        own, content = unwrapped(runner.model), read_checkpoint(config.load_from)
        check_weights(own, weights_of(content, own), config.load_from)
        trained = (content.get('meta') or {}).get('dataset_meta') or {}
    _check_classes(config, trained)
    runner.test_loop.evaluator.metrics += metrics
    return runner.test()


def metrics_of(config: Config, tested: nn.Module | str | Path) -> dict[str, float]:
    """Tests without a work folder, with messages on stderr, and returns the metrics alone.

    Args:
        config: A complete config; it is changed.
        tested: The model or an exported file.
    """
    model = load_model(tested) if isinstance(tested, (str, Path)) else tested
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        config.work_dir, config.launcher = folder, 'none'
        found = run_test(config, model)
    return {name: value for name, value in found.items() if not name.endswith('time')}


def _check_classes(config: Config, trained: Mapping[str, Any]) -> None:
    """Compares the classes that a model was trained on with those of the test data.

    Different names are a warning.

    Raises:
        UserError: If the names are the same in another order, unless the config's ``checks`` switch
            off the check of classes.
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
                f'{message}: the same classes in another order, so that predictions would be '
                'compared with the wrong class. Give the data set `metainfo=dict(classes=(...))` '
                'in the order of the training, or set `checks = dict(classes=False)` to switch off '
                'this check.'
            )
        print_log(f'{message}.', 'current', logging.WARNING)
