"""The runner that trains and tests: mmengine's, made to survive faults."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from ..check_settings import is_checked
from ..checkpoints.finding import read_checkpoint
from ..datasets.bad_data import BadDataPolicy, BadSampleList, guarded_dataset
from ..datasets.palette import ignored_value
from ..datasets.seeded_batches import SeededDataLoader, no_batch_message
from ..errors import UserError
from ..models.fit import check_fit
from ..models.loading import check_weights, fit_weights, weights_of
from ..registry import RUNNERS, type_name
from .advice import explained_errors
from .hardware import can_train_with_amp, distribute_on_cpu, without_amp
from .hooks.bad_data_hook import BadDataHook
from .hooks.batch_check_hook import BatchCheckHook
from .hooks.exact_resume_hook import ExactResumeHook
from .hooks.history_hook import HistoryHook
from .hooks.holding_hook import released_hooks
from .hooks.interruption_hook import InterruptionHook, outlive_signals
from .hooks.loss_watch_hook import LossWatchHook
from .hooks.missed_validation_hook import MissedValidationHook
from .train_loop import IterBasedTrainLoop
from .unwrapped import unwrapped

#: Settings of a data loader that torch refuses without worker processes.
_OF_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's runner, with all that ``docs/training.md`` describes.

    Compared with mmengine's:

    - checkpoints are read safely, in every published format, from a path, a URL or the name of a
      model; ``load_from`` leaves out what does not fit and says so;
    - a resumed training continues bit for bit, and checkpoints are written whole or not at all;
    - on SIGTERM and SIGUSR1 it saves and stops; handlers are restored however a training ends;
    - files that cannot be used are named, or skipped (``bad_data``);
    - losses that are not finite stop it, or their steps are skipped (``loss_watch``);
    - errors that come from a config say how to fix it.

    A config chooses it by ``runner_type = 'edgenext_mm.Runner'``; in a script,
    ``Runner.from_cfg(config)`` builds it.
    """

    #: What a data loader is for that is being built: ``train``, ``val`` or ``test``.
    _split = 'test'

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Builds a runner from a full config, which is not changed.

        Raises:
            UserError: If the parts of its model do not fit together, ``bad_data`` or
                ``loss_watch`` is no policy, or nothing can be written to its ``work_dir``.
        """
        BadDataPolicy.of(cfg)
        config = copy.deepcopy(cfg)
        _check_work_dir(config.work_dir)
        if config.get('launcher') == 'pytorch' and not torch.cuda.is_available():
            distribute_on_cpu(config)
        no_amp = not can_train_with_amp() and without_amp(config)
        runner = super().from_cfg(config)
        check_fit(unwrapped(runner.model), config)
        if no_amp:
            runner.logger.warning(
                'The config asks for automatic mixed precision, which needs a GPU; this machine '
                f'has none (device: {get_device()}). Training in full precision.'
            )
        return runner

    # Data.

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the loop of training.

        Raises:
            UserError: If an epoch has no batch.
        """
        self._split = 'train'
        built = super().build_train_loop(_with_own_loop(loop))
        if isinstance(built, EpochBasedTrainLoop) and len(built.dataloader) == 0:
            raise UserError(no_batch_message(built.dataloader.batch_sampler))
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the loop of validation.

        Raises:
            UserError: If there is no image.
        """
        self._split = 'val'
        built = super().build_val_loop(loop)
        if len(built.dataloader.dataset) == 0:
            raise UserError('The data set of the val_dataloader has no image.')
        return built

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the loop of testing."""
        self._split = 'test'
        return super().build_test_loop(loop)

    def build_dataloader(  # mmengine calls it on the runner
        self,
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Builds a data loader.

        Bad samples are refused, or skipped in training. Worker processes outlive signals that are
        for the training.

        Args:
            dataloader: A data loader, which is returned as it is, or its config.
            seed: Of samplers and workers. Default: None.
            diff_rank_seed: Whether each process has a seed of its own. Default: False.
        """
        if isinstance(dataloader, dict):
            dataloader = copy.copy(dataloader)
            if not dataloader.get('num_workers'):
                for name in _OF_WORKERS:
                    dataloader.pop(name, None)
            if self._split != 'test':
                outlive_signals(dataloader, seed)
            self._guard(dataloader)
        loader = super().build_dataloader(dataloader, seed, diff_rank_seed)
        seeded = self._split == 'train' and loader.batch_sampler is not None
        return SeededDataLoader(loader) if seeded else loader

    def _guard(self, dataloader: dict[str, Any]) -> None:
        """Lets a data set refuse bad samples. Only training skips them: a metric over other images
        would be another metric."""
        policy = BadDataPolicy.of(self.cfg)
        if policy.checks:
            dataloader['dataset'] = dict(
                type=guarded_dataset,
                dataset=dataloader['dataset'],
                policy=policy if self._split == 'train' else BadDataPolicy(),
                skipped=self._skipped(),
                ignored=ignored_value(self.cfg),
            )

    def _skipped(self) -> BadSampleList:
        return BadSampleList(Path(self.log_dir, 'bad_samples.jsonl'))

    # Hooks.

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: list[Hook | dict] | None = None,
    ) -> None:
        """Registers the hooks of the config, and ours.

        Args:
            default_hooks: By name; mmengine's ``CheckpointHook`` becomes
                :class:`WholeCheckpointHook`.
            custom_hooks: Of the config.
        """
        super().register_hooks(_with_whole_checkpoints(default_hooks), custom_hooks)
        for hook in self._own_hooks():
            self.register_hook(hook)

    def _own_hooks(self) -> Iterator[Hook]:
        yield ExactResumeHook()
        yield InterruptionHook()
        if is_checked(self.cfg, 'batches'):
            yield BatchCheckHook()
        yield MissedValidationHook()
        yield HistoryHook()
        if self.cfg.get('loss_watch', {}) is not None:
            yield LossWatchHook(**self.cfg.get('loss_watch', {}))
        if BadDataPolicy.of(self.cfg).skips:
            yield BadDataHook(self._skipped())

    # Checkpoints and logs.

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list[tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Loads a checkpoint into the model.

        Unless it is resumed, weights of any published format are taken, tensors of other shapes
        (as of a head for other classes) are left out, and the log says which.

        Args:
            filename: Path, URL, or the name of a model of the zoo.
            map_location: Where tensors go. Default: the CPU.
            strict: Whether all weights must be there. Default: False.
            revise_keys: Unused; names are recognised.

        Returns:
            The content of the checkpoint.

        Raises:
            UserError: If it cannot be read, or the model has none of its names; if it is resumed,
                also if a name or shape differs.
        """
        checkpoint = read_checkpoint(filename, map_location)
        model = unwrapped(self.model)
        report = None
        if not self._resume:
            fit = fit_weights(model, weights_of(checkpoint, model), filename)
            checkpoint['state_dict'], report = fit.taken, fit.report
        else:
            check_weights(model, checkpoint['state_dict'], filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'], strict=strict)
        self._has_loaded = True
        self.logger.info(report or f'Load checkpoint from {filename}')
        return checkpoint

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Builds the visualizer, whose local files may fail.

        Args:
            visualizer: One, its config, or None for mmengine's default.
        """
        if visualizer is None:
            visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        if isinstance(visualizer, dict):
            visualizer = copy.deepcopy(visualizer)
            for backend in visualizer.get('vis_backends') or []:
                if isinstance(backend, dict) and type_name(backend['type']) == 'LocalVisBackend':
                    backend['type'] = 'edgenext_mm.LocalVisBackend'
        return super().build_visualizer(visualizer)

    # Runs.

    def train(self) -> Any:
        """Trains; returns the model. However it ends, hooks are released."""
        with released_hooks(self), explained_errors(self):
            return super().train()

    def val(self) -> dict[str, Any]:
        """Validates; returns the metrics."""
        with explained_errors(self):
            return super().val()

    def test(self) -> dict[str, Any]:
        """Tests; returns the metrics."""
        with explained_errors(self):
            return super().test()


def _check_work_dir(folder: str) -> None:
    """Makes a work folder.

    Raises:
        UserError: If nothing can be written to it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'Nothing can be written to the work folder {folder} ({error}). Give another one with '
            '--work-dir.'
        ) from error


def _with_own_loop(loop: BaseLoop | dict) -> BaseLoop | dict:
    """The config of a loop with ours in the place of mmengine's ``IterBasedTrainLoop``."""
    if not isinstance(loop, dict):
        return loop
    loop = dict(loop)
    by_iteration = 'type' not in loop and not loop.get('by_epoch', True)
    if by_iteration or type_name(loop.get('type')) == 'IterBasedTrainLoop':
        loop.pop('by_epoch', None)
        loop['type'] = IterBasedTrainLoop
    return loop


def _with_whole_checkpoints(hooks: dict[str, Any] | None) -> dict[str, Any]:
    """Default hooks with our checkpoint hook in the place of mmengine's."""
    hooks = dict(hooks or {})
    hook = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
    if isinstance(hook, dict) and type_name(hook.get('type')) == 'CheckpointHook':
        hooks['checkpoint'] = {**hook, 'type': 'edgenext_mm.WholeCheckpointHook'}
    return hooks


def build_runner(config: Config) -> MMEngineRunner:
    """The runner that a config asks for by ``runner_type``, else ours.

    Raises:
        UserError: As :meth:`~edgenext_mm.engine.Runner.from_cfg`.
    """
    return MMENGINE_RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
