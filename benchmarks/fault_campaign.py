"""Kill trainings of all four tasks repeatedly, resume them, and compare the results.

Small trainings (xxsmall, eight images, three epochs) are killed with SIGKILL during an optimizer
step, during a validation, while the model holds averaged weights, while a checkpoint is being
written, and at any time. They are resumed with `tools/train.py --resume` and killed again. The
result is compared bit for bit with that of an uninterrupted training. Exits with status 1 if one
differs.

Examples:
    python -m benchmarks.fault_campaign --kills 12
    python -m benchmarks.fault_campaign --update docs/training.md
"""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets import SceneSettings, write_digit_scenes, write_digits
from edgenext_mm.errors import UserError

from .documents import update_table
from .kill_hook import KILL, PHASES

ROOT = Path(__file__).resolve().parents[1]
TASKS = {
    'classification': 'classification/edgenext-xxsmall_digits.py',
    'detection': 'detection/ssdlite_edgenext-xxsmall_digits.py',
    'segmentation': 'segmentation/deeplabv3_edgenext-xxsmall_digits.py',
    'rotated detection': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py',
}
OUTSIDE = 'any time'
_LAST = 'iter_12.pth'
_PRELOAD = ['edgenext_mm.cli', 'mmpretrain', 'mmdet.datasets', 'mmseg', 'mmrotate']


@dataclass
class Outcome:
    """The results of the trainings of a task.

    Args:
        kills: The number of kills by phase.
        trainings: The number of trainings that were killed and resumed to their end.
        identical: The number of them that ended like the uninterrupted training.
        faults: A sentence for each training that did not.
    """

    kills: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    identical: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """The trainings of a task.

    Args:
        folder: The folder for data, configs, logs and checkpoints of all tasks.
        task: A key of :data:`TASKS`.
        seed: The seed of the moments of the kills.
    """

    def __init__(self, folder: Path, task: str, seed: int = 0) -> None:
        self.folder, self.task = folder / task.replace(' ', '_'), task
        self.random = random.Random(f'{seed} {task}')
        self.outcome = Outcome()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (folder / 'data').exists():
            write_digits(folder / 'data/digits')
            write_digit_scenes(folder / 'data/digit_scenes', SceneSettings(num_train=8, num_val=4))
        self.config = self.folder / 'config.py'
        _write_config(ROOT / 'configs' / TASKS[task], self.config)
        self.processes = multiprocessing.get_context('forkserver')
        self.processes.set_forkserver_preload(_PRELOAD)

    def run(self, kills: int) -> Iterator[str]:
        """Runs one uninterrupted training, then kills others until the number is reached.

        Args:
            kills: The number of kills.

        Yields:
            The phase of each kill.

        Raises:
            UserError: If the uninterrupted training fails.
        """
        begin = time.monotonic()
        if self._train('whole') != 0:
            raise UserError(f'The {self.task} training fails; see {self.folder / "whole.log"}.')
        self.seconds = time.monotonic() - begin
        while self.outcome.kills.total() < kills:
            self.outcome.trainings += 1
            yield from self._kill_a_training(f'killed_{self.outcome.trainings}', kills)

    def _kill_a_training(self, name: str, kills: int) -> Iterator[str]:
        for _ in range(self.random.randint(3, 6)):
            if self.outcome.kills.total() == kills:
                break
            phase = self.random.choice([*PHASES, OUTSIDE])
            status = self._train(name, phase)
            if status == -signal.SIGKILL:
                self.outcome.kills[phase] += 1
                yield phase
            elif status == 0:  # it finished before the moment of the kill
                break
            else:
                self.outcome.faults.append(f'{name} ended with status {status} ({phase}).')
                return
        status = self._train(name)
        if status != 0:
            self.outcome.faults.append(f'{name} was not resumed: status {status}.')
            return
        difference = _difference(self.folder / 'whole' / _LAST, self.folder / name / _LAST)
        if difference:
            self.outcome.faults.append(f'{name} differs: {difference}')
        self.outcome.identical += not difference

    def _train(self, name: str, phase: str | None = None) -> int | None:
        """Starts or resumes a training and returns its exit status."""
        kill = f'{phase}:{self.random.randint(1, PHASES[phase])}' if phase in PHASES else ''
        process = self.processes.Process(target=_train, args=[self.config, name, kill])
        process.start()
        if phase == OUTSIDE:
            process.join(self.random.uniform(0, self.seconds))
            process.kill()
        process.join()
        return process.exitcode


def _train(config: Path, name: str, kill: str) -> None:
    """Runs ``tools/train.py --resume`` in a process that has already imported the libraries."""
    work_dir = config.with_name(name)
    log = os.open(f'{work_dir}.log', os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ[KILL] = kill
    os.chdir(config.parents[1])  # the configs read from `data/`
    torch.set_num_threads(1)
    sys.argv = ['train.py', str(config), '--work-dir', str(work_dir), '--resume']
    runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')


def _write_config(path: Path, target: Path) -> None:
    """Writes a config of three epochs of four steps, with checkpoints every other step."""
    config = load_config(path)
    config.custom_imports.imports.append('benchmarks.kill_hook')
    config.model.backbone.pop('init_cfg', None)
    config.train_dataloader.batch_size = config.val_dataloader.batch_size = 2
    if config.default_scope == 'mmpretrain':
        config.train_dataloader.dataset.indices = list(range(0, 1400, 175))
        config.val_dataloader.dataset.indices = list(range(0, 360, 90))
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='edgenext_mm.KillHook')]
    config.default_hooks.checkpoint.update(by_epoch=False, interval=2, max_keep_ckpts=1)
    # mmrotate's metric starts four processes, which takes as long as the training.
    interval = 3 if config.default_scope == 'mmrotate' else 1
    config.train_cfg.update(max_epochs=3, val_interval=interval)
    config.train_cfg.pop('dynamic_intervals', None)
    config.dump(target)


def _difference(whole: Path, killed: Path) -> str:
    """Returns how two checkpoints differ; empty if they are the same bit for bit."""

    def content(path: Path) -> list[Any]:
        checkpoint = torch.load(path, map_location='cpu', weights_only=False)
        weights = [dict(checkpoint[key]) for key in ('state_dict', 'ema_state_dict')]
        best = checkpoint['message_hub']['runtime_info'].get('best_score')
        return [*weights, checkpoint['optimizer'], str(checkpoint['param_schedulers']), str(best)]

    options = dict(rtol=0, atol=0, equal_nan=True)
    *tensors, schedulers, best = content(whole)
    *other_tensors, other_schedulers, other_best = content(killed)
    if (schedulers, best) != (other_schedulers, other_best):
        return 'the schedules or the best metric.'
    try:
        torch.testing.assert_close(tensors, other_tensors, **options)
    except AssertionError as error:
        return str(error)
    return ''


def kills_table(outcomes: dict[str, Outcome]) -> str:
    """Returns a Markdown table.

    Args:
        outcomes: The outcomes by task.
    """
    phases = [*PHASES, OUTSIDE]
    rows = [
        f'| task | {" | ".join(phases)} | kills | trainings | identical | lost |',
        '|---' * (len(phases) + 5) + '|',
    ]
    total = Counter[str]()
    for task, outcome in outcomes.items():
        counts = Counter({phase: outcome.kills[phase] for phase in phases})
        counts['kills'] = outcome.kills.total()
        counts['trainings'], counts['identical'] = outcome.trainings, outcome.identical
        counts['lost'] = outcome.trainings - outcome.identical
        total.update(counts)
        rows.append(f'| {task} | {" | ".join(map(str, counts.values()))} |')
    return '\n'.join([*rows, f'| all | {" | ".join(map(str, total.values()))} |'])


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('--kills', type=int, default=60, help='in total (default: %(default)s)')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=list(TASKS), metavar='TASK',
        help='out of ' + ', '.join(TASKS),
    )  # fmt: skip
    parser.add_argument('--seed', type=int, default=0, help='of the moments (default: 0)')
    parser.add_argument('--work-dir', help='folder to keep (default: a temporary one)')
    parser.add_argument('--update', metavar='FILE', help='write the table to this document')
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    outcomes = {}
    with tempfile.TemporaryDirectory() as temporary, tqdm(total=args.kills, unit='kill') as bar:
        for i, task in enumerate(args.tasks, 1):
            campaign = Campaign(Path(args.work_dir or temporary).resolve(), task, args.seed)
            outcomes[task] = campaign.outcome
            bar.set_description(task)
            share = args.kills * i // len(args.tasks) - args.kills * (i - 1) // len(args.tasks)
            for _ in campaign.run(share):
                bar.update()
            for fault in campaign.outcome.faults:
                bar.write(f'{task}: {fault}')
    table = kills_table(outcomes)
    print(table)
    if args.update:
        update_table(args.update, 'kills', table)
    if any(outcome.identical < outcome.trainings for outcome in outcomes.values()):
        sys.exit('error: Some trainings did not end like the uninterrupted one.')


if __name__ == '__main__':
    main()
