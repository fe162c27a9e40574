"""Computes the loss on the validation data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ...errors import caused_by
from ...registry import HOOKS, type_name
from ..unwrapped import unwrapped

NAME = 'val_loss'


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Logs the model's loss on the validation data beside its metrics, as ``val_loss``.

    Each validation is followed by a second pass in evaluation mode and without gradients, on the
    images of the ``val_dataloader``. Annotations are loaded before the transforms of its pipeline,
    so that boxes and masks are resized with their images, as the loss needs them; metrics need them
    in the original size. The pass changes neither weights nor buffers.

    With ``val_loss = True`` in a config, our :class:`~edgenext_mm.engine.Runner` adds this hook.
    ``val_loss`` can be the metric of ``save_best`` (with ``rule='less'``) and of early stopping.

    Raises:
        UserError: During training, if the loss cannot be computed on the validation data.
    """

    priority = 'VERY_HIGH'  # other hooks see the metric

    def __init__(self) -> None:
        self._loader: DataLoader | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Adds the losses to the metrics and to the log."""
        if self._loader is None:
            self._loader = runner.build_dataloader(with_resized_annotations(runner))
        losses = self._losses(runner, self._loader)
        for name, value in losses.items():
            runner.message_hub.update_scalar(f'val/{name}', value)
            if metrics is not None:
                metrics[name] = value

    def _losses(self, runner: Runner, loader: DataLoader) -> dict[str, float]:
        """Returns the mean losses over the images of all processes."""
        model = unwrapped(runner.model)
        sums: dict[str, float] = defaultdict(float)
        count = 0
        model.eval()
        for batch in loader:
            try:
                with torch.no_grad(), _without_batch_transforms(model):
                    data = model.data_preprocessor(batch, True)
                    _, losses = model.parse_losses(model(**data, mode='loss'))
            except Exception as error:  # models and heads raise anything
                raise caused_by(
                    error,
                    '`val_loss` cannot be computed: the loss fails on the validation data. Set '
                    '`val_loss = False`, or make the pipeline of the val_dataloader load the '
                    'annotations of the training',
                ) from error
            size = len(batch['inputs'])
            count += size
            for name, value in losses.items():
                sums[name.replace('loss', NAME)] += float(value) * size
        names = sorted(name for name in sums if NAME in name)
        totals = torch.tensor([*(sums[name] for name in names), count], dtype=torch.float64)
        all_reduce(totals)
        return dict(zip(names, (totals[:-1] / totals[-1].clamp(min=1)).tolist(), strict=True))


@contextmanager
def _without_batch_transforms(model: nn.Module) -> Iterator[None]:
    """Switches off what a data preprocessor does to whole training batches, such as mixup."""
    preprocessor = model.data_preprocessor
    kept = getattr(preprocessor, 'batch_augments', None)
    if kept is not None:
        preprocessor.batch_augments = None
    try:
        yield
    finally:
        if kept is not None:
            preprocessor.batch_augments = kept


def with_resized_annotations(runner: Runner) -> ConfigDict:
    """Returns the config of the val_dataloader whose pipeline loads annotations first."""
    loader = deepcopy(runner.cfg.val_dataloader)
    datasets = [loader.dataset]
    while datasets:
        dataset = datasets.pop()
        datasets += [dataset.dataset] if 'dataset' in dataset else dataset.get('datasets', [])
        if 'pipeline' in dataset:
            dataset.pipeline = _load_first(dataset.pipeline)
            if dataset.get('test_mode'):
                dataset.test_mode = False  # mmdet drops annotations of some data sets with it
                dataset.filter_cfg = dict(filter_empty_gt=False)
    return loader


def _load_first(pipeline: list[Any]) -> list[Any]:
    def is_loading(step: Any) -> bool:
        return isinstance(step, dict) and type_name(step['type']).startswith('Load')

    loading = [step for step in pipeline if is_loading(step)]
    # Conversions of annotations, such as mmrotate's ConvertBoxType, follow them.
    converting = [s for s in pipeline if isinstance(s, dict) and 'Convert' in type_name(s['type'])]
    rest = [step for step in pipeline if step not in loading and step not in converting]
    return [*loading, *converting, *rest]
