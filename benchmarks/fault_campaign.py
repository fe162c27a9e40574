"""Kill trainings of all four tasks again and again, and compare how they end.

Tiny trainings (xxsmall, eight images, three epochs) are killed with SIGKILL: within an optimiser
step, a validation, while the model holds averaged weights, while a checkpoint is half-written, and
at any time from outside. They are resumed with `tools/train.py --resume`, killed again, and
in the end compared bit for bit with one that was left in peace. Exits with status 1 if one differs.

Examples:
    python -m benchmarks.fault_campaign --kills 12
    python -m benchmarks.fault_campaign --json kills.json --update docs/training.md
"""

from __future__ import annotations

import json
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
from mmengine.config import Config
from tqdm import tqdm

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets import SceneSettings, write_digit_scenes, write_digits
from edgenext_mm.errors import UserError

from .documents import update_table
from .kill_hook import KILL, PHASES

ROOT = Path(__file__).resolve().parents[1]
#: Configs of the tasks.
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
    """What became of the trainings of a task.

    Args:
        kills: Number by phase.
        trainings: That were killed and resumed to their end.
        identical: How many of them ended with the weights, averages, optimiser and best metric of
            the training that was not killed.
        faults: What went wrong, a sentence each.
    """

    kills: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    identical: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """Trainings of a task in a folder.

    Args:
        folder: For data, configs, logs and checkpoints.
        task: One of :data:`TASKS`.
        seed: Of the moments of the kills.
    """

    def __init__(self, folder: Path, task: str, seed: int = 0) -> None:
        self.folder, self.task = folder / task.replace(' ', '_'), task
        self.random = random.Random(f'{seed} {task}')
        self.outcome = Outcome()
        self.config = self.folder / 'config.py'
        self.folder.mkdir(parents=True, exist_ok=True)
        _make_config(ROOT / 'configs' / TASKS[task], folder / 'data').dump(self.config)
        self.processes = multiprocessing.get_context('forkserver')
        self.processes.set_forkserver_preload(_PRELOAD)

    def run(self, kills: int) -> Iterator[str]:
        """Trains once undisturbed, then kills trainings until there were so many kills.

        Yields:
            The phase of each kill, when it has been done.

        Raises:
            UserError: If the undisturbed training fails.
        """
        begin = time.monotonic()
        if self._train('whole') != 0:
            raise UserError(f'The {self.task} training fails; see {self.folder / "whole.log"}.')
        self.seconds = time.monotonic() - begin
        while sum(self.outcome.kills.values()) < kills:
            yield from self._kill_a_training(kills)

    def _kill_a_training(self, kills: int) -> Iterator[str]:
        self.outcome.trainings += 1
        name = f'killed_{self.outcome.trainings}'
        for _ in range(self.random.randint(3, 6)):
            if sum(self.outcome.kills.values()) == kills:
                break
            phase = self.random.choice([*PHASES, OUTSIDE])
            status = self._train(name, phase)
            if status == -signal.SIGKILL:
                self.outcome.kills[phase] += 1
                yield phase
            elif status == 0:  # it was at its end before
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
            self.outcome.faults.append(f'{name} differs in {difference}.')
        self.outcome.identical += not difference

    def _train(self, name: str, phase: str | None = None) -> int | None:
        """Trains or goes on; returns the exit status, as processes have it."""
        kill = f'{phase}:{self.random.randint(1, PHASES[phase])}' if phase in PHASES else ''
        process = self.processes.Process(
            target=_run_tool, args=[self.config, self.folder / name, kill]
        )
        process.start()
        if phase == OUTSIDE:
            process.join(self.random.uniform(0, self.seconds))
            process.kill()
        process.join()
        return process.exitcode


def _run_tool(config: Path, work_dir: Path, kill: str) -> None:
    """In a process of its own, which has imported what takes long: tools/train.py --resume."""
    log = os.open(work_dir.with_suffix('.log'), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ[KILL] = kill
    torch.set_num_threads(1)
    sys.argv = ['train.py', str(config), '--work-dir', str(work_dir), '--resume']
    runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')


def _make_config(path: Path, data: Path) -> Config:
    """Three epochs of four steps, with checkpoints every other step."""
    scenes, digits = data / 'digit_scenes', data / 'digits'
    if not digits.exists():
        write_digits(digits)
        write_digit_scenes(scenes, SceneSettings(num_train=8, num_val=4))
    config = load_config(path)
    moved = {'data/digits': str(digits), 'data/digit_scenes': str(scenes)}
    config = Config(_replace(config.to_dict(), moved))
    config.custom_imports.imports.append('benchmarks.kill_hook')
    config.model.backbone.pop('init_cfg', None)
    config.train_dataloader.batch_size = config.val_dataloader.batch_size = 2
    if config.default_scope == 'mmpretrain':
        config.train_dataloader.dataset.indices = list(range(0, 1400, 175))
        config.val_dataloader.dataset.indices = list(range(0, 360, 90))
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='edgenext_mm.KillHook')]
    config.default_hooks.checkpoint.update(by_epoch=False, interval=2, max_keep_ckpts=1)
    # mmrotate's metric starts four Python processes, which takes as long as the training does.
    config.train_cfg.update(
        max_epochs=3, val_interval=3 if config.default_scope == 'mmrotate' else 1
    )
    config.train_cfg.pop('dynamic_intervals', None)
    return config


def _replace(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _replace(v, names) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replace(v, names) for v in value)
    if isinstance(value, str):
        for old in sorted(names, key=len, reverse=True):
            if value == old or value.startswith(f'{old}/'):
                return names[old] + value[len(old) :]
    return value


def _difference(whole: Path, killed: Path) -> str:
    """The parts of two checkpoints that are not the same bit for bit."""
    a, b = (torch.load(path, map_location='cpu', weights_only=False) for path in (whole, killed))
    for checkpoint in (a, b):
        checkpoint['best'] = checkpoint['message_hub']['runtime_info'].get('best_score')
    parts = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'best')
    return ', '.join(part for part in parts if not _same(a[part], b[part]))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def kills_table(outcomes: dict[str, Outcome]) -> str:
    """A Markdown table of outcomes by task."""
    phases = [*PHASES, OUTSIDE]
    rows = [
        f'| task | {" | ".join(phases)} | kills | trainings | identical | lost |',
        '|---' * (len(phases) + 5) + '|',
    ]
    total = Outcome()
    for outcome in outcomes.values():
        total.kills += outcome.kills
        total.trainings += outcome.trainings
        total.identical += outcome.identical
    for name, outcome in [*outcomes.items(), ('all', total)]:
        counts = [outcome.kills[phase] for phase in phases]
        figures = [*counts, sum(counts), outcome.trainings, outcome.identical]
        lost = outcome.trainings - outcome.identical
        rows.append(f'| {name} | {" | ".join(map(str, [*figures, lost]))} |')
    return '\n'.join(rows)


def run(folder: Path, tasks: list[str], kills: int, seed: int) -> dict[str, Outcome]:
    """The outcomes by task; the kills are shared out evenly."""
    outcomes = {}
    with tqdm(total=kills, unit='kill') as bar:
        for i, task in enumerate(tasks):
            campaign = Campaign(folder, task, seed)
            outcomes[task] = campaign.outcome
            bar.set_description(task)
            for _ in campaign.run(kills * (i + 1) // len(tasks) - kills * i // len(tasks)):
                bar.update()
            for fault in campaign.outcome.faults:
                bar.write(f'{task}: {fault}')
    return outcomes


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('--kills', type=int, default=60, help='in all (default: %(default)s)')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=list(TASKS), metavar='TASK',
        help='of ' + ', '.join(TASKS),
    )  # fmt: skip
    parser.add_argument('--seed', type=int, default=0, help='of the moments (default: 0)')
    parser.add_argument('--work-dir', help='folder to keep (default: a temporary one)')
    parser.add_argument('--json', metavar='FILE', help='write the outcomes there, too')
    parser.add_argument('--update', metavar='FILE', help='put the table into this document')
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.work_dir or temporary).resolve()
        outcomes = run(folder, args.tasks, args.kills, args.seed)
    table = kills_table(outcomes)
    print(table)
    if args.json:
        content = {task: vars(outcome) for task, outcome in outcomes.items()}
        Path(args.json).write_text(json.dumps(content, indent=2) + '\n')
    if args.update:
        update_table(args.update, 'kills', table)
    if any(outcome.identical < outcome.trainings for outcome in outcomes.values()):
        sys.exit('error: Not all trainings ended as if they had not been killed.')


if __name__ == '__main__':
    main()
