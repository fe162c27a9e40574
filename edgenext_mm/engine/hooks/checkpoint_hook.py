"""Checkpoints that are whole or not there, and a training that outlives a full disk."""

from __future__ import annotations

import copy
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

from ...files import remove_leftovers, replacing
from ...registry import HOOKS

#: Written when a training is told to stop; obsolete once a later checkpoint is there.
INTERRUPTED = 'interrupted.pth'
_STATE = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path', 'best_ckpt_path_dict')


@register_backend('edgenext_mm_whole_files')
class WholeFileBackend(LocalBackend):
    """Local files, written whole or not at all, and not removed before it is time."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def put(self, obj: bytes, filepath: str | os.PathLike[str]) -> None:
        """Writes a file that takes the place of another one once it is on the disk."""
        with replacing(filepath) as temporary:
            temporary.write_bytes(obj)

    def remove(self, filepath: str | os.PathLike[str]) -> None:
        """Notes a file for :meth:`remove_outdated`."""
        self.outdated.append(str(filepath))

    def remove_outdated(self) -> None:
        """Removes the files that were noted."""
        while self.outdated:
            Path(self.outdated.pop()).unlink(missing_ok=True)


def write_checkpoint(runner: Runner, folder: str, name: str, **options: Any) -> None:
    """Writes a checkpoint to resume from, and its path to ``last_checkpoint``.

    Must be called in all processes; the first one writes.

    Args:
        runner: Whose state is stored.
        folder: For the file; also on another kind of storage.
        name: Of the file.
        **options: Of mmengine's ``Runner.save_checkpoint``.

    Raises:
        OSError: If it cannot be written. What was there stays.
    """
    path = f'{folder}/{name}' if '://' in folder else os.path.join(folder, name)
    runner.message_hub.update_info('last_ckpt', path)
    runner.call_hook('before_write_checkpoint')
    if '://' not in folder and options.get('backend_args') is None:
        options['backend_args'] = dict(backend='edgenext_mm_whole_files')
    runner.save_checkpoint(folder, name, **options)
    if is_main_process():
        with replacing(Path(runner.work_dir, 'last_checkpoint')) as temporary:
            temporary.write_text(path)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's, but that a checkpoint appears whole or not at all, that older ones are removed
    only once the new one is on the disk, and that a full disk does not end the training.

    Our :class:`~edgenext_mm.engine.runner.Runner` puts it in the place of mmengine's, with the same
    arguments. Checkpoints that go to another kind of storage (``out_dir='s3://...'``) are
    written as mmengine does.
    """

    file_backend: Any
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """Also removes what a killed run left half-written."""
        super().before_train(runner)
        # mmengine forgets it, and would not store a best metric that comes before the next save.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        self._local = isinstance(self.file_backend, LocalBackend)
        if self._local:
            self.file_backend = WholeFileBackend()
            # Of a training that is resumed from another folder, the best one is not ours to remove.
            if hasattr(self, 'best_ckpt_path'):
                self.best_ckpt_path = self._own(self.best_ckpt_path)
            if hasattr(self, 'best_ckpt_path_dict'):
                for key, path in self.best_ckpt_path_dict.items():
                    self.best_ckpt_path_dict[key] = self._own(path)
            self.backend_args = dict(backend='edgenext_mm_whole_files')
            if is_main_process():
                for folder in {str(self.out_dir), runner.work_dir}:
                    remove_leftovers(folder, '*.pth')
                remove_leftovers(runner.work_dir, 'last_checkpoint')

    def _own(self, path: str | None) -> str | None:
        """The file of that name in the folder of this training, if it is there."""
        here = Path(str(self.out_dir), Path(path).name) if path else None
        return str(here) if here and here.is_file() else None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """mmengine's removes old files first, and empties ``last_checkpoint`` before it writes."""
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        with self._outliving_a_full_disk(runner):
            self._keep(runner, step)
            name = self.filename_tmpl.format(step)
            self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
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

    def _keep(self, runner: Runner, step: int) -> None:
        """Notes which checkpoints are kept from now on, and which ones are not."""
        self.file_backend.remove(os.path.join(runner.work_dir, INTERRUPTED))
        if self.max_keep_ckpts <= 0:
            return
        kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
        for old in kept[: -self.max_keep_ckpts]:
            self.file_backend.remove(
                self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            )
        self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self._local:
            super()._save_best_checkpoint(runner, metrics)
            return
        with self._outliving_a_full_disk(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _outliving_a_full_disk(self, runner: Runner) -> Iterator[None]:
        """Takes back what a save that failed has changed, says so, and lets the run go on."""
        own = {name: copy.copy(value) for name, value in vars(self).items() if name in _STATE}
        info = dict(runner.message_hub.runtime_info)
        outdated = len(self.file_backend.outdated)
        try:
            yield
        except OSError as error:
            self.__dict__.update(own)
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(info)
            del self.file_backend.outdated[outdated:]
            runner.logger.error(
                f'No checkpoint was saved at epoch {runner.epoch}, iteration {runner.iter}: '
                f'{error}. The training goes on; the last checkpoint is {self.last_ckpt}. '
                f'Make room in {self.out_dir}.'
            )
        else:
            if is_main_process():
                self.file_backend.remove_outdated()
