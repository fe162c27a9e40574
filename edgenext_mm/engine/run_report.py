"""Reports what happened to a training, from the files in its work folder."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints.latest import find_best, find_damage, find_latest
from ..checkpoints.reading import read_file
from ..errors import UserError
from .run_record import process_start

#: A run on another host counts as running if it has logged within this many seconds.
RECENT = 600
_WORKER_KILLED = (
    'a data loading process was killed, usually because memory ran out: lower '
    'train_dataloader.num_workers, then'
)
_OTHER_PROCESS = (
    'another process ended first, by an error or because it was killed (out of memory, for '
    'example): see "Root Cause" in the output of the launcher, then'
)
#: Maps a pattern in the traceback to what the user should do before resuming.
HINTS = {
    r'No space left|Disk quota|PytorchStreamWriter': 'the disk was full: free some space, then',
    r'out of memory|OutOfMemory': 'memory ran out: lower train_dataloader.batch_size, then',
    r'DataLoader worker .* (killed by|exited)': _WORKER_KILLED,
    # The data loading process has not ended yet when its broken connection is seen.
    r'_try_get_data(?s:.*)\n(Connection\w*|EOF)Error': _WORKER_KILLED,
    r'not finite': 'see docs/training.md, then',
}
#: Exceptions that are no errors of the code.
_NOT_OF_CODE = ('UserError', 'SystemExit', 'KeyboardInterrupt')


class Finding(NamedTuple):
    """One line of the report; ``fix`` is empty if nothing is wrong."""

    name: str
    state: str
    fix: str = ''


class RunReport(NamedTuple):
    """Whether a run has finished, and the lines of its report in order."""

    finished: bool
    findings: list[Finding]


def examine_run(work_dir: str | Path) -> RunReport:
    """Examines the last training in a work folder, without changing anything.

    Args:
        work_dir: The work folder of the training.

    Raises:
        UserError: If the folder does not exist or holds no training.
    """
    folder = Path(work_dir)
    run = _last_run(folder)
    try:
        last = find_latest(folder)
    except UserError:  # all checkpoints are damaged, which _checkpoints reports
        last = None
    state, may_resume = _state(run)
    fix = f'{_hint(run)}{_resume_command(run, folder, last)}' if may_resume else ''
    findings = [
        Finding('run', state, fix),
        *_location(run),
        *_values(run),
        *_checkpoints(folder, last),
        *_space(folder, last),
    ]
    return RunReport(run.record.get('state') == 'finished', findings)


class Run:
    """What one start of a training has written.

    Args:
        folder: Its log folder, ``WORK_DIR/TIMESTAMP``.

    Attributes:
        record: The content of ``run.json``; empty if a program without our runner wrote the logs.
        reason: The exception that stopped it; empty if no process recorded one.
        logged: The entries of ``scalars.json``; those of training have a ``loss``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        records = [json.loads(path.read_text()) for path in sorted(folder.glob('run*.json'))]
        self.record: dict[str, Any] = records[0] if records else {}
        stopped = [record for record in records if record['state'] == 'stopped']
        # When one process fails, others lose their connection or are told to stop.
        stopped.sort(key=lambda r: (_is_consequence(r['reason']), r['end_time']))
        self.reason: dict[str, Any] = (
            {**stopped[0]['reason'], 'rank': stopped[0]['rank']} if stopped else {}
        )
        paths = sorted(folder.glob('vis_data/scalars.json'))
        lines = paths[0].read_text(errors='replace').splitlines() if paths else []
        self.logged = [entry for line in lines if (entry := _parse(line)) is not None]
        self.losses = [entry for entry in self.logged if 'loss' in entry]


def _is_consequence(reason: dict[str, Any]) -> bool:
    return reason['type'] == 'SystemExit' or reason['lost_connection']


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # the incomplete last line of a killed run
        return None


def _last_run(work_dir: Path) -> Run:
    if not work_dir.is_dir():
        raise UserError(f'There is no folder {work_dir}.')
    folders = sorted((p for p in work_dir.glob('[0-9]*_[0-9]*') if p.is_dir()), reverse=True)
    if not folders:
        raise UserError(
            f'{work_dir} is not the work folder of a training: it has no log folder such as '
            '20261122_004229.'
        )
    runs = map(Run, folders)
    # Tests of a model leave log folders, too.
    return next((run for run in runs if run.record or run.losses), Run(folders[0]))


def _state(run: Run) -> tuple[str, bool]:
    """Returns the state of a run in words, and whether it can be resumed."""
    record, position = run.record, _position(run)
    when = f'after {position}' if run.losses else position
    age = time.time() - max(path.stat().st_mtime for path in (run.folder, *run.folder.rglob('*')))
    if not record:
        return f'unknown: not started by edgenext_mm.Runner, {position}, {age:,.0f} s ago', False
    if record['state'] == 'finished':
        return f'finished, {position}', False
    if run.reason:
        kind, message = run.reason['type'], run.reason['message']
        if kind == 'KeyboardInterrupt' or (kind, message) == ('SystemExit', '75'):
            return f'was told to stop, {position}', True
        # torch puts the traceback of a data loading process in front of its error.
        line = (message.splitlines() or [''])[-1 if 'Original Traceback' in message else 0]
        return f'stopped {when} by {kind} on rank {run.reason["rank"]}: {line}', True
    if record['host'] != socket.gethostname():
        if age < RECENT:
            host = record['host']
            return f'probably running on {host}, {position}; last log {age:,.0f} s ago', False
    elif record['process_start'] and process_start(record['pid']) == record['process_start']:
        return f'running as process {record["pid"]}, {position}; last log {age:,.0f} s ago', False
    return (
        f'ended without a recorded reason {when}: it was killed (out of memory, a time limit, '
        'kill -9), or the machine went down',
        True,
    )


def _position(run: Run) -> str:
    if not run.losses:
        return 'before the first logged iteration'
    last, epochs, iterations = run.losses[-1], *map(run.record.get, ('max_epochs', 'max_iters'))
    epoch = f'epoch {last["epoch"]} of {epochs}, ' if epochs and 'epoch' in last else ''
    limit = f' of {iterations}' if iterations else ''
    return f'{epoch}iteration {last.get("iter", last["step"])}{limit}'


def _hint(run: Run) -> str:
    if run.reason.get('lost_connection'):
        return f'{_OTHER_PROCESS} '
    text = '\n'.join(run.reason.get('traceback', ()))
    of_code = run.reason and run.reason['type'] not in _NOT_OF_CODE
    default = 'correct the error, then ' if of_code else ''
    return next(
        (f'{hint} ' for pattern, hint in HINTS.items() if re.search(pattern, text)), default
    )


def _location(run: Run) -> Iterator[Finding]:
    frames = [line for line in run.reason.get('traceback', ()) if line.startswith('  File "')]
    if frames and run.reason['type'] not in _NOT_OF_CODE:
        files = ' and '.join(path.name for path in sorted(run.folder.glob('run*.json')))
        location = frames[-1].strip().replace('"', '')
        yield Finding('raised in', f'{location}; the traceback is in {run.folder}/{files}')


def _values(run: Run) -> Iterator[Finding]:
    bad = next((entry for entry in run.losses if not math.isfinite(entry['loss'])), None)
    if bad:
        iteration = bad.get('iter', bad['step'])
        state = f'not finite: {bad["loss"]} at iteration {iteration}'
        yield Finding('loss', state, 'see docs/training.md')
    if run.losses:
        last = run.losses[-1]
        yield Finding('last loss', f'{last["loss"]:.4g}, learning rate {last.get("lr", 0):.4g}')
    metrics = [entry for entry in run.logged if 'loss' not in entry]
    if metrics:
        shown = [(k, v) for k, v in metrics[-1].items() if k not in ('step', 'time', 'data_time')]
        values = ', '.join(f'{k} {v:.4g}' for k, v in shown if isinstance(v, (int, float)))
        yield Finding('last validation', f'{values} at step {metrics[-1].get("step")}')


def _checkpoints(folder: Path, last: str | None) -> Iterator[Finding]:
    if last is None:
        yield Finding('checkpoint', 'none that can be read')
    elif '://' in last:
        yield Finding('checkpoint', f'{last}, which was not read')
    else:
        meta = read_file(last).get('meta', {})
        progress = ', '.join(f'{k} {meta[k]}' for k in ('epoch', 'iter') if k in meta)
        yield Finding('checkpoint', f'{last} ({progress})')
    if best := find_best(folder):
        info = read_file(best).get('message_hub', {}).get('runtime_info', {})
        score = f' (score {info["best_score"]:.4g})' if 'best_score' in info else ''
        yield Finding('best checkpoint', f'{best}{score}')
    paths = [path for path in folder.glob('[!.]*.pth') if not path.name.startswith('non_finite')]
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for best_ones in (False, True):
        for path in paths:
            if path.name.startswith('best_') == best_ones:
                damage = find_damage(path)
                if damage is None:  # older checkpoints are not read
                    break
                yield Finding('damaged', damage, shlex.join(['rm', str(path)]))


def _space(folder: Path, last: str | None) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    if last and '://' not in last and free < 2 * Path(last).stat().st_size:
        state = f'{free / 2**20:,.0f} MiB free, less than two checkpoints need'
        yield Finding('disk', state, 'free some space, or lower max_keep_ckpts')


def _resume_command(run: Run, folder: Path, last: str | None) -> str:
    """Returns the command that resumes a run, or starts it again if there is no checkpoint."""
    # The copy of the config that mmengine writes includes the settings of --cfg-options.
    name = run.record['config'] or f'{run.folder.name}.py'
    config = str(folder / Path(name).name)
    start = {
        'pytorch': ['bash', 'tools/dist_train.sh', config, str(run.record['world_size'])],
        'slurm': ['bash', 'tools/slurm_train.sh', 'PARTITION', 'JOB', config],
    }.get(run.record['launcher'], ['python', 'tools/train.py', config])
    return shlex.join([*start, '--work-dir', str(folder), *(['--resume'] if last else [])])
