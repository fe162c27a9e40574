"""What happened to a training, from what it left in its work folder."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from ..checkpoints.reading import read_file
from ..errors import UserError
from .first_failure import LOST_CONNECTION
from .run_record import FINISHED, STARTED, STOPPED

#: A log that was written to within as many seconds may be one of a run that goes on.
RECENT = 600
_KILLED = (
    'a data loading process was killed, mostly for want of memory: lower '
    'train_dataloader.num_workers, then'
)
#: What an error says, and what helps.
HINTS = {
    r'No space left|Disk quota|PytorchStreamWriter': 'the disk was full: free some space, then',
    r'out of memory|OutOfMemory': 'memory ran out: lower train_dataloader.batch_size, then',
    r'DataLoader worker .* (killed by|exited)': _KILLED,
    r'_try_get_data(?s:.*)\n(Connection\w*|EOF)Error': _KILLED,  # still about to end
    rf'by (RuntimeError|Dist\w+Error): .*({LOST_CONNECTION.pattern})': (
        'another process ended first, by an error of its own or killed (out of memory, for '
        'instance): see "Root Cause" in the output of the launcher, then'
    ),
    r'not finite': 'see docs/training.md, then',
}
#: How Python ends where it was told to: with the status that asks for another try, or by Ctrl-C.
TOLD = r'by (SystemExit: 75|KeyboardInterrupt)'


class Finding(NamedTuple):
    """One line of the report; ``mend`` is what helps where something is wrong."""

    name: str
    state: str
    mend: str = ''


class RunReport(NamedTuple):
    """Whether a run has finished, and what there is to say, in order."""

    finished: bool
    findings: list[Finding]


def examine_run(work_dir: str | Path) -> RunReport:
    """Reads what the last training in a work folder left there; changes nothing.

    Args:
        work_dir: Of ``tools/train.py``, or of any other training by mmengine.

    Raises:
        UserError: If no training has been there.
    """
    run = _last_run(Path(work_dir))
    checkpoints = Checkpoints(Path(work_dir))
    state = _state(run, checkpoints)
    resume = '' if state.startswith(('finished', 'running')) else _command(run, checkpoints)
    findings = [
        Finding('run', state, f'{_hint(run)}{resume}'),
        *_errors(run),
        *_figures(run),
        *checkpoints.examine(),
        *_space(run, checkpoints),
    ]
    return RunReport(state.startswith('finished'), findings)


@dataclass
class Run:
    """What one start of a training has written.

    Args:
        folder: Named after the time.
    """

    folder: Path

    @cached_property
    def log(self) -> str:
        """The text of its log."""
        paths = sorted(self.folder.glob('*.log'))
        return paths[0].read_text(errors='replace') if paths else ''

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """What it logged as JSON: of training with ``loss``, of validation with metrics."""
        paths = sorted(self.folder.glob('vis_data/scalars.json'))
        lines = paths[0].read_text(errors='replace').splitlines() if paths else []
        return [record for line in lines if (record := _json(line)) is not None]

    @cached_property
    def losses(self) -> list[dict[str, Any]]:
        """The records of training."""
        return [record for record in self.records if 'loss' in record]

    @cached_property
    def config(self) -> Config:
        """Its config; an empty one where none was written."""
        path = self.folder / 'vis_data' / 'config.py'
        return Config.fromfile(path, import_custom_modules=False) if path.is_file() else Config()

    @cached_property
    def process(self) -> dict[str, Any] | None:
        """Host, process and command, as far as they are known."""
        found = re.search(rf'{STARTED}(.*)', self.log)
        return _json(found[1]) if found else None

    @cached_property
    def error(self) -> str:
        """The error that it ended with, traceback and all."""
        found = re.search(
            rf'{STOPPED}.*|Traceback \(most recent call last\).*', self.log, re.DOTALL
        )
        return found[0].strip() if found else ''

    @property
    def trained(self) -> bool:
        """Whether it was a training, not a test."""
        return self.process is not None or bool(self.losses)


def _json(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # the last line of a run that was killed
        return None


def _last_run(work_dir: Path) -> Run:
    if not work_dir.is_dir():
        raise UserError(f'There is no folder {work_dir}.')
    runs = [Run(path) for path in sorted(work_dir.glob('[0-9]*_[0-9]*')) if path.is_dir()]
    if not runs:
        raise UserError(
            f'{work_dir} is no work folder of a training: it holds no folder of logs such as '
            '20261122_004229.'
        )
    return next((run for run in reversed(runs) if run.trained), runs[-1])


def _state(run: Run, checkpoints: Checkpoints) -> str:
    place = _place(run)
    when = f'after {place}' if run.losses else place
    ours = run.process is not None
    if FINISHED in run.log or (not ours and not run.error and _is_complete(run, checkpoints)):
        return f'finished, {place}'
    if re.search(TOLD, run.error):
        return f'was told to stop, {place}'
    if run.error:
        return f'stopped {when}: {run.error.splitlines()[0].removeprefix(STOPPED)}'
    age = time.time() - max(path.stat().st_mtime for path in run.folder.rglob('*'))
    here = run.process is not None and run.process['host'] == socket.gethostname()
    if run.process and here and _is_alive(run.process):
        return f'running as process {run.process["pid"]}, {place}; last logged {age:,.0f} s ago'
    if not here and age < RECENT:
        host = f' on {run.process["host"]}' if run.process else ''
        return f'running{host}, as it seems, {place}; last logged {age:,.0f} s ago'
    return (
        f'ended without a word {when}: killed (out of memory, a time limit, kill -9), or '
        'the machine went down'
    )


def _place(run: Run) -> str:
    if not run.losses:
        return 'before the first logged iteration'
    last, limits = run.losses[-1], run.config.get('train_cfg') or {}
    epochs, iterations = limits.get('max_epochs'), limits.get('max_iters')
    epoch = f'epoch {last["epoch"]} of {epochs}, ' if epochs and 'epoch' in last else ''
    return f'{epoch}iteration {last.get("iter", last["step"])}' + (
        f' of {iterations}' if iterations else ''
    )


def _is_complete(run: Run, checkpoints: Checkpoints) -> bool:
    """Whether the last epoch or iteration was saved: all that other tools leave to tell."""
    limits = run.config.get('train_cfg') or {}
    meta = checkpoints.last[1].get('meta', {}) if checkpoints.last else {}
    pairs = [(limits.get('max_epochs'), 'epoch'), (limits.get('max_iters'), 'iter')]
    return any(limit and meta.get(name, 0) >= limit for limit, name in pairs)


def _is_alive(process: dict[str, Any]) -> bool:
    try:
        words = Path('/proc', str(process['pid']), 'cmdline').read_bytes().split(b'\0')
    except OSError:
        return False
    return process['command'][0].encode() in words  # another may have got its number


def _hint(run: Run) -> str:
    hints = (hint for pattern, hint in HINTS.items() if re.search(pattern, run.error))
    hint = next(hints, '')
    return f'{hint} ' if hint else ''


def _errors(run: Run) -> Iterator[Finding]:
    frames = re.findall(r'^  File "(.*)", line (\d+), in (\S+)', run.error, re.MULTILINE)
    if frames:
        path, line, function = frames[-1]
        yield Finding('raised in', f'{function}, {path}:{line}; the whole traceback ends the log')
    bad = next((r for r in run.losses if not math.isfinite(r['loss'])), None)
    if bad:
        where = f'{bad["loss"]} at iteration {bad.get("iter", bad["step"])}'
        yield Finding('loss', f'not finite: {where}', 'see docs/training.md')


def _figures(run: Run) -> Iterator[Finding]:
    if run.losses:
        last = run.losses[-1]
        yield Finding('last loss', f'{last["loss"]:.4g}, learning rate {last.get("lr", 0):.4g}')
    metrics = [r for r in run.records if 'loss' not in r]
    if metrics:
        shown = [(k, v) for k, v in metrics[-1].items() if k not in ('step', 'time', 'data_time')]
        values = ', '.join(f'{k} {v:.4g}' for k, v in shown if isinstance(v, (int, float)))
        yield Finding('last validation', f'{values} at step {metrics[-1].get("step")}')


class Checkpoints:
    """The checkpoints of a work folder, each opened before it is believed, newest first.

    Args:
        folder: The work folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[Path, str] = {}
        paths = [p for p in folder.glob('[!.]*.pth') if not p.name.startswith('non_finite')]
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        best = [path for path in paths if path.name.startswith('best_')]
        self.last = self._first_whole([path for path in paths if path not in best])
        self.best = self._first_whole(best)

    def _first_whole(self, paths: list[Path]) -> tuple[Path, dict[str, Any]] | None:
        for path in paths:
            try:
                return path, read_file(path)
            except UserError as error:
                self.damaged[path] = str(error)
        return None

    def examine(self) -> Iterator[Finding]:
        """What can be said of each."""
        if self.last is None:
            yield Finding('checkpoint', 'none that can be read')
        else:
            path, content = self.last
            meta = content.get('meta', {})
            place = ', '.join(f'{k} {meta[k]}' for k in ('epoch', 'iter') if k in meta)
            yield Finding('checkpoint', f'{path} ({place})')
        if self.best is not None:
            path, content = self.best
            known = content.get('message_hub', {}).get('runtime_info', {})
            score = f' (score {known["best_score"]:.4g})' if 'best_score' in known else ''
            yield Finding('best checkpoint', f'{path}{score}')
        for path, error in self.damaged.items():
            yield Finding('damaged', error, shlex.join(['rm', str(path)]))

    def resume_options(self) -> list[str]:
        """Those of ``tools/train.py`` that go on from the last one."""
        if self.last is None:
            return []
        path, mark = self.last[0], self.folder / 'last_checkpoint'
        marked = mark.is_file() and Path(mark.read_text().strip()).name == path.name
        return ['--resume'] if marked else ['--resume', str(path)]


def _space(run: Run, checkpoints: Checkpoints) -> Iterator[Finding]:
    free = shutil.disk_usage(checkpoints.folder).free
    need = 2 * checkpoints.last[0].stat().st_size if checkpoints.last else 0
    if free < need:
        state = f'{free / 2**20:,.0f} MiB free, less than two checkpoints take'
        yield Finding('disk', state, 'free some space, or lower max_keep_ckpts')


def _command(run: Run, checkpoints: Checkpoints) -> str:
    """The command that goes on from the last good checkpoint, or starts anew where none is."""
    copies = sorted(checkpoints.folder.glob('*.py'))
    config = copies[0] if len(copies) == 1 else run.folder / 'vis_data' / 'config.py'
    options = ['--work-dir', str(checkpoints.folder), *checkpoints.resume_options()]
    launcher = re.search(r'Distributed launcher: (\w+)', run.log)
    processes = re.search(r'GPU number: (\d+)', run.log)
    start = ['python', 'tools/train.py', str(config)]
    if launcher and launcher[1] == 'pytorch' and processes:
        start = ['bash', 'tools/dist_train.sh', str(config), processes[1]]
    elif launcher and launcher[1] == 'slurm':
        start = ['bash', 'tools/slurm_train.sh', 'PARTITION', 'JOB', str(config)]
    return shlex.join([*start, *options])
