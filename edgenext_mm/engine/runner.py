"""The runner that trains and tests: mmengine's, with exact resuming and clear errors."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
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
from ..checkpoints.finding import check_pretrained, read_checkpoint
from ..config import drop_own_scope
from ..datasets.bad_data import BadDataPolicy, BadSampleList, guarded_dataset
from ..datasets.class_balance import balance_loss, balanced_dataset
from ..datasets.palette import ignored_value
from ..datasets.seeded_batches import SeededDataLoader, no_batch_message
from ..errors import UserError
from ..models.fit import check_fit
from ..models.loading import check_weights, fit_weights, weights_of
from ..placeholders import with_placeholders_replaced
from ..registry import RUNNERS, type_name
from .advice import explained_errors
from .config_text import read_settings
from .hardware import can_train_with_amp, distribute_on_cpu, without_amp
from .hooks.bad_data_hook import BadDataHook
from .hooks.batch_check_hook import BatchCheckHook
from .hooks.early_stopping_hook import EarlyStoppingHook
from .hooks.exact_resume_hook import ExactResumeHook
from .hooks.history_hook import HistoryHook
from .hooks.holding_hook import HoldingHook
from .hooks.interruption_hook import InterruptionHook, ignore_signals_in_workers
from .hooks.loss_watch_hook import LossWatchHook
from .hooks.missed_validation_hook import MissedValidationHook
from .hooks.validation_loss_hook import ValidationLossHook
from .run_record import recorded_run
from .unwrapped import unwrapped
from .warmup import without_short_warmups
from .work_folder import work_folder

#: Arguments of a data loader that torch only accepts with worker processes.
_WORKER_SETTINGS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's runner, extended as ``docs/training.md`` describes.

    Differences from mmengine's:

    - checkpoints are read safely, in every published format, from a path, a URL or a model name;
      ``load_from`` skips tensors of other shapes and logs their names;
    - a resumed training continues bit for bit, and checkpoint files are never incomplete;
    - on SIGTERM and SIGUSR1 it saves a checkpoint and stops;
    - files that cannot be used are named, or skipped (``bad_data``);
    - a loss that is not finite stops the training, or its step is skipped (``loss_watch``);
    - the loss on the validation data is logged (``val_loss = True``), and a training that no longer
      improves stops (``early_stopping``);
    - errors that come from a config say how to fix them;
    - ``run.json`` in the log folder records how a training ended.

    Select it in a config with ``runner_type = 'edgenext_mm.Runner'``, or build it in a script with
    ``Runner.from_cfg(config)``.
    """

    #: Whether the data loader that is being built is for training.
    _for_training = False

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Builds a runner.

        Args:
            cfg: A full config. It is not changed. Without ``work_dir``, the work folder is
                ``work_dirs/NAME`` with the name of its file.

        Raises:
            UserError: If the parts of the model do not fit together, ``bad_data`` or
                ``loss_watch`` is invalid, or ``work_dir`` is not writable.
        """
        BadDataPolicy.of(cfg)
        config = copy.deepcopy(cfg)
        drop_own_scope(config)
        config = with_placeholders_replaced(config)
        balance_loss(config)
        config.work_dir = str(work_folder(config))
        _check_work_dir(config.work_dir)
        if config.get('launcher') == 'pytorch' and not torch.cuda.is_available():
            distribute_on_cpu(config)
        removed_amp = not can_train_with_amp() and without_amp(config)
        runner = super().from_cfg(config)
        check_fit(unwrapped(runner.model), config)
        if removed_amp:
            runner.logger.warning(
                'The config asks for automatic mixed precision, which needs a GPU; this machine '
                f'has none (device: {get_device()}). Training in full precision.'
            )
        return runner

    # Data.

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the training loop.

        Args:
            loop: A loop, or its config.

        Raises:
            UserError: If an epoch has no batch.
        """
        if isinstance(loop, dict):
            loop = dict(loop)
            by_iteration = 'type' not in loop and not loop.get('by_epoch', True)
            if by_iteration or type_name(loop.get('type')) == 'IterBasedTrainLoop':
                loop['fast_forward_on_resume'] = True  # SeededBatches start at the right step
        self._for_training = True
        try:
            built = super().build_train_loop(loop)
        finally:
            self._for_training = False
        if isinstance(built, EpochBasedTrainLoop) and len(built.dataloader) == 0:
            raise UserError(no_batch_message(built.dataloader.batch_sampler))
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the validation loop.

        Args:
            loop: A loop, or its config.

        Raises:
            UserError: If the data set is empty.
        """
        built = super().build_val_loop(loop)
        if len(built.dataloader.dataset) == 0:
            raise UserError('The data set of the val_dataloader has no image.')
        return built

    def build_dataloader(  # a static method of mmengine, which calls it on the runner
        self,
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Builds a data loader that refuses bad samples, or skips them in training.

        Its worker processes ignore signals that are meant for the training.

        Args:
            dataloader: The config of a data loader; a built one is returned unchanged.
            seed: The seed of samplers and workers. Default: None.
            diff_rank_seed: Whether each process has its own seed. Default: False.
        """
        if isinstance(dataloader, dict):
            dataloader = copy.copy(dataloader)
            if not dataloader.get('num_workers'):
                for name in _WORKER_SETTINGS:
                    dataloader.pop(name, None)
            ignore_signals_in_workers(dataloader, seed)
            if self._for_training:
                dataloader['dataset'] = balanced_dataset(self.cfg, dataloader['dataset'])
            policy = BadDataPolicy.of(self.cfg)
            if policy.checks:
                # Only training skips samples: metrics on fewer images would not be comparable.
                dataloader['dataset'] = dict(
                    type=guarded_dataset,
                    dataset=dataloader['dataset'],
                    policy=policy if self._for_training else BadDataPolicy(),
                    skipped=self._skipped_samples(),
                    ignored=ignored_value(self.cfg),
                )
        loader = super().build_dataloader(dataloader, seed, diff_rank_seed)
        seeded = self._for_training and loader.batch_sampler is not None
        return SeededDataLoader(loader) if seeded else loader

    def _skipped_samples(self) -> BadSampleList:
        return BadSampleList(Path(self.log_dir, 'bad_samples.jsonl'))

    # Hooks.

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: list[Hook | dict] | None = None,
    ) -> None:
        """Registers the hooks of the config and those of this package.

        Args:
            default_hooks: The default hooks by name. :class:`WholeCheckpointHook` replaces
                mmengine's ``CheckpointHook``.
            custom_hooks: The custom hooks of the config.
        """
        hooks = dict(default_hooks or {})
        hook = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
        if isinstance(hook, dict) and type_name(hook.get('type')) == 'CheckpointHook':
            hooks['checkpoint'] = {**hook, 'type': 'edgenext_mm.WholeCheckpointHook'}
        super().register_hooks(hooks, custom_hooks)
        for own in self._own_hooks():
            self.register_hook(own)

    def _own_hooks(self) -> Iterator[Hook]:
        yield ExactResumeHook()
        yield InterruptionHook()
        if is_checked(self.cfg, 'batches'):
            yield BatchCheckHook()
        yield MissedValidationHook()
        if self.cfg.get('val_loss'):
            yield ValidationLossHook()
        if (stopping := EarlyStoppingHook.of(self.cfg)) is not None:
            yield stopping
        yield HistoryHook()
        if (watch := LossWatchHook.of(self.cfg)) is not None:
            yield watch
        if BadDataPolicy.of(self.cfg).skips:
            yield BadDataHook(self._skipped_samples())

    # Checkpoints and logs.

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list[tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Loads a checkpoint into the model.

        Unless the training is resumed, weights of any published format are accepted. Tensors of
        other shapes (for example, of a head for other classes) are skipped and logged.

        Args:
            filename: A path, a URL, or the name of a model of the zoo.
            map_location: The device of the loaded tensors. Default: ``cpu``.
            strict: Whether the model must find all of its weights. Default: False.
            revise_keys: Unused; the format of the names is detected.

        Returns:
            The content of the checkpoint.

        Raises:
            UserError: If the file cannot be read or has no weights of this model; when resuming,
                also if a name, a shape or the type of the optimizer differs.
        """
        checkpoint = read_checkpoint(filename, map_location)
        model = unwrapped(self.model)
        report = f'Load checkpoint from {filename}'
        if self._resume:
            check_weights(model, checkpoint['state_dict'], filename)
            _check_optimizer(self.cfg, checkpoint, filename)
        else:
            fit = fit_weights(model, weights_of(checkpoint, model), filename)
            checkpoint['state_dict'], report = fit.taken, fit.report or report
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'], strict=strict)
        self._has_loaded = True
        self.logger.info(report)
        return checkpoint

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Builds the visualizer, with a local backend that survives a full disk.

        Args:
            visualizer: A visualizer, its config, or None for mmengine's default.
        """
        if visualizer is None:
            visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        if isinstance(visualizer, dict):
            visualizer = copy.deepcopy(visualizer)
            for backend in visualizer.get('vis_backends') or []:
                if isinstance(backend, dict) and type_name(backend['type']) == 'LocalVisBackend':
                    backend['type'] = 'edgenext_mm.LocalVisBackend'
        return super().build_visualizer(visualizer)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Builds the schedulers, without warm-ups that are too short.

        Args:
            scheduler: Config of a scheduler, or several; or as mmengine documents.
        """
        if isinstance(scheduler, (list, tuple)):
            kept = without_short_warmups(scheduler, len(self.train_dataloader))
            if len(kept) < len(scheduler):
                self.logger.info('No warm-up: it would have less than two steps.')
            scheduler = kept
        return super().build_param_scheduler(scheduler)

    # Runs.

    def train(self) -> Any:
        """Trains the model and returns it. Records how the training ends.

        Raises:
            UserError: Before it starts, if initial weights are missing or cannot be read safely.
        """
        check_pretrained(self.cfg.get('model') or {})
        with recorded_run(self), explained_errors(self):
            try:
                return super().train()
            finally:
                for hook in self.hooks:
                    if isinstance(hook, HoldingHook):
                        hook.release()

    def val(self) -> dict[str, Any]:
        """Validates the model and returns the metrics."""
        with explained_errors(self):
            return super().val()

    def test(self) -> dict[str, Any]:
        """Tests the model and returns the metrics."""
        with explained_errors(self):
            return super().test()


def _check_work_dir(folder: str) -> None:
    """Creates a work folder, and raises a UserError if it is not writable."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'The work folder {folder} is not writable ({error}). Choose another one with '
            '--work-dir.'
        ) from error


def _check_optimizer(config: Config, checkpoint: Mapping[str, Any], filename: str) -> None:
    """Raises a UserError if a training with another type of optimizer wrote the checkpoint."""
    text = checkpoint['meta'].get('cfg') or ''
    saved = _optimizer_type(read_settings(text, ['optim_wrapper']).get('optim_wrapper'))
    current = _optimizer_type(config.get('optim_wrapper'))
    if 'optimizer' in checkpoint and saved and current and saved != current:
        raise UserError(
            f'Cannot resume from {filename}: its optimizer is {saved}, but '
            f'optim_wrapper.optimizer.type of this config is {current}, which has other state. Set '
            f'it to {saved}, or start a new training from these weights: `load_from` without '
            '--resume.'
        )


def _optimizer_type(optim_wrapper: Any) -> str:
    """Returns the type of the optimizer in a config; empty if there are several or none."""
    optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, Mapping) else None
    return type_name(optimizer['type']) if isinstance(optimizer, Mapping) else ''


def build_runner(config: Config) -> MMEngineRunner:
    """Builds the runner that ``runner_type`` of a config names; ours by default.

    Args:
        config: A full config.

    Raises:
        UserError: See :meth:`Runner.from_cfg`.
    """
    return MMENGINE_RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
