"""Stops a training that no longer improves; also after it was resumed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import EarlyStoppingHook as MMEngineHook
from mmengine.runner import Runner

from ...errors import UserError
from ...registry import HOOKS

_STATE = 'edgenext_mm_early_stopping'
_SETTINGS = ('monitor', 'rule', 'min_delta', 'patience', 'stopping_threshold')


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineHook):
    """mmengine's ``EarlyStoppingHook``, whose state survives resuming.

    With ``early_stopping = dict(patience=10)`` in a config, our
    :class:`~edgenext_mm.engine.Runner` adds this hook.

    Args:
        monitor: Metric to watch, such as ``coco/bbox_mAP`` or ``val_loss``. Default: that of
            ``save_best``; for ``'auto'``, the first metric of the evaluator.
        rule: ``greater`` or ``less``. Default: inferred from the name of the metric.
        min_delta: Smallest change that counts as an improvement. Default: 1e-4.
        patience: Number of validations without an improvement after which training stops.
            Default: 10.
        stopping_threshold: Value of the metric at which training stops. Default: None.

    Raises:
        UserError: If a setting is unknown; during training, if there is no such metric.
    """

    def __init__(
        self,
        monitor: str | None = None,
        rule: str | None = None,
        min_delta: float = 1e-4,
        patience: int = 10,
        stopping_threshold: float | None = None,
    ) -> None:
        if rule not in (None, 'greater', 'less') or not (
            isinstance(patience, int) and patience > 0
        ):
            raise UserError(
                '`early_stopping` takes `rule`, greater or less, and `patience`, a positive number '
                f'of validations; got rule={rule!r}, patience={patience!r}.'
            )
        self._chosen_rule, self._delta = rule, abs(min_delta)
        super().__init__(
            monitor or 'loss',
            rule or 'less',
            self._delta,
            patience=patience,
            stopping_threshold=stopping_threshold,
        )
        self.monitor = monitor or ''
        self._state: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> EarlyStoppingHook | None:
        """Builds the hook of a config; None if it has no ``early_stopping``.

        Raises:
            UserError: If ``early_stopping`` has an unknown setting.
        """
        settings = config.get('early_stopping')
        if not settings:
            return None
        if not isinstance(settings, Mapping) or set(settings) - set(_SETTINGS):
            raise UserError(
                f'`early_stopping` is {settings!r}. It takes {", ".join(_SETTINGS)}; for instance '
                '`early_stopping = dict(patience=10)`.'
            )
        best = config.get('default_hooks', {}).get('checkpoint', {}).get('save_best', 'auto')
        watched = best if isinstance(best, str) and best != 'auto' else None
        return cls(**{'monitor': watched, **settings})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Stops the training if the metric has not improved for long."""
        if not self.monitor:
            self.monitor = next(iter(metrics), '')
        if self.monitor not in metrics:
            near = difflib.get_close_matches(self.monitor, metrics, 1, 0.3) or list(metrics)[:1]
            raise UserError(
                f'`early_stopping.monitor` is {self.monitor!r}, which is no metric of this '
                f'training. Metrics: {", ".join(metrics)}.'
                + (f' Did you mean {near[0]!r}?' if near else '')
            )
        if self._state is not None or self.best_score in (float('inf'), -float('inf')):
            self._set_rule()
        super().after_val_epoch(runner, metrics)
        if getattr(runner.train_loop, 'stop_training', False):
            runner.message_hub.update_info('stopped_early', runner.epoch)

    def _set_rule(self) -> None:
        try:
            self.rule = self._chosen_rule or self._init_rule(self.monitor)
        except ValueError as error:
            raise UserError(
                f'Whether {self.monitor} should grow or shrink is unknown. Set '
                "`early_stopping.rule` to 'greater' or 'less'."
            ) from error
        self.min_delta = self._delta if self.rule == 'greater' else -self._delta
        self.best_score = -float('inf') if self.rule == 'greater' else float('inf')
        if self._state is not None:
            self.best_score, self.wait_count = self._state['best_score'], self._state['wait_count']
            self._state = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the best value and the number of validations since."""
        checkpoint[_STATE] = dict(
            monitor=self.monitor, best_score=self.best_score, wait_count=self.wait_count
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restores them when a training is resumed."""
        state = checkpoint.get(_STATE)
        if runner._resume and state and state['monitor'] in (self.monitor or state['monitor'],):
            self.monitor, self._state = state['monitor'], state
