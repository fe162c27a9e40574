"""Writes checkpoints that are never incomplete, and continues if the disk is full."""

from __future__ import annotations

import copy
import inspect
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...errors import UserError
from ...files import remove_leftovers, replacing
from ...registry import HOOKS

#: Written when a training is told to stop; removed after the next regular checkpoint.
INTERRUPTED = 'interrupted.pth'
_STATE = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path', 'best_ckpt_path_dict')
_BACKEND = dict(backend='edgenext_mm_whole_files')


@register_backend(_BACKEND['backend'])
class WholeFileBackend(LocalBackend):
    """Writes local files atomically, and defers their removal."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def put(self, obj: bytes, filepath: str | os.PathLike[str]) -> None:
        """Writes a file under a temporary name and renames it once it is on the disk.

        Args:
            obj: The content.
            filepath: The path of the file.
        """
        with replacing(filepath) as temporary:
            temporary.write_bytes(obj)

    def remove(self, filepath: str | os.PathLike[str]) -> None:
        """Marks a file for :meth:`remove_outdated`.

        Args:
            filepath: The path of the file, which need not exist.
        """
        self.outdated.append(str(filepath))

    def remove_outdated(self) -> None:
        """Removes the marked files."""
        while self.outdated:
            Path(self.outdated.pop()).unlink(missing_ok=True)


def write_checkpoint(runner: Runner, folder: str, name: str, **options: Any) -> None:
    """Writes a checkpoint to resume from, and its path to ``last_checkpoint``.

    All processes must call this function; the first one writes.

    Args:
        runner: The runner whose state is saved.
        folder: The folder of the file. It may be on other storage, such as ``s3://...``.
        name: The name of the file.
        **options: Other arguments of ``Runner.save_checkpoint``.

    Raises:
        OSError: If the file cannot be written. Existing files are unchanged.
    """
    local = '://' not in folder
    path = os.path.join(folder, name) if local else f'{folder}/{name}'
    runner.message_hub.update_info('last_ckpt', path)
    runner.call_hook('before_write_checkpoint')
    if local and options.get('backend_args') is None:
        options['backend_args'] = _BACKEND
    runner.save_checkpoint(folder, name, **options)
    if is_main_process():
        with replacing(Path(runner.work_dir, 'last_checkpoint')) as temporary:
            temporary.write_text(path)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` with atomic writes.

    A checkpoint is either complete or absent, older ones are removed only when the new one is on
    the disk, and a full disk does not end the training. The arguments are those of mmengine's hook,
    which this hook replaces in our :class:`~edgenext_mm.engine.Runner`. Checkpoints on other
    storage (``out_dir='s3://...'``) are written as mmengine writes them.

    Raises:
        UserError: If an argument is unknown; mmengine's hook fails at the first save.
    """

    file_backend: Any
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]
    keep_ckpt_ids: deque[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = list(inspect.signature(CheckpointHook.__init__).parameters)[1:]
        saving = list(inspect.signature(Runner.save_checkpoint).parameters)[1:]
        known = sorted({*own, *saving} - {'kwargs', 'filename', 'meta', 'file_client_args'})
        unknown = sorted(set(kwargs) - {*own, *saving})
        if unknown:
            raise UserError(
                f'default_hooks.checkpoint has no setting {", ".join(unknown)}. It takes '
                f'{", ".join(known)}.'
            )
        super().__init__(*args, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Prepares the storage and removes incomplete files of a killed run."""
        super().before_train(runner)
        # mmengine forgets it, and would not store a best metric that comes before the next save.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        self._local = isinstance(self.file_backend, LocalBackend)
        if not self._local:
            return
        self.file_backend = WholeFileBackend()
        self.backend_args = _BACKEND
        # If the training was resumed from another folder, its best checkpoint must stay there.
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = self._own(self.best_ckpt_path)
        if hasattr(self, 'best_ckpt_path_dict'):
            paths = self.best_ckpt_path_dict
            self.best_ckpt_path_dict = {key: self._own(path) for key, path in paths.items()}
        if is_main_process():
            for folder in {str(self.out_dir), runner.work_dir}:
                remove_leftovers(folder, '*.pth')
            remove_leftovers(runner.work_dir, 'last_checkpoint')

    def _own(self, path: str | None) -> str | None:
        """Returns the file of the same name in the folder of this training, if it exists."""
        here = Path(str(self.out_dir), Path(path).name) if path else None
        return str(here) if here and here.is_file() else None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # mmengine removes old files and empties `last_checkpoint` before it writes the new one.
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        with self._surviving_full_disk(runner):
            self._mark_outdated(runner, step)
            name = self.filename_tmpl.format(step)
            self.last_ckpt = os.path.join(str(self.out_dir), name)
            write_checkpoint(
                runner,
                str(self.out_dir),
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )

    def _mark_outdated(self, runner: Runner, step: int) -> None:
        """Marks the checkpoints to remove once that of a step is written."""
        self.file_backend.remove(os.path.join(runner.work_dir, INTERRUPTED))
        if self.max_keep_ckpts <= 0:
            return
        kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
        for old in kept[: -self.max_keep_ckpts]:
            self.file_backend.remove(
                os.path.join(str(self.out_dir), self.filename_tmpl.format(old))
            )
        self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self._local:
            super()._save_best_checkpoint(runner, metrics)
            return
        with self._surviving_full_disk(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _surviving_full_disk(self, runner: Runner) -> Iterator[None]:
        """Logs an error if a checkpoint cannot be saved, and restores the state before it."""
        own = {name: copy.copy(value) for name, value in vars(self).items() if name in _STATE}
        info = dict(runner.message_hub.runtime_info)
        num_outdated = len(self.file_backend.outdated)
        try:
            yield
        except OSError as error:
            self.__dict__.update(own)
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(info)
            del self.file_backend.outdated[num_outdated:]
            runner.logger.error(
                f'No checkpoint was saved after epoch {runner.epoch}, iteration {runner.iter}: '
                f'{error}. The training continues; the last checkpoint is {self.last_ckpt}. '
                f'Free some space in {self.out_dir}.'
            )
        else:
            if is_main_process():
                self.file_backend.remove_outdated()
