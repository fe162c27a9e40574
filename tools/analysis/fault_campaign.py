"""Kill trainings of all four tasks again and again, and compare how they end.

Tiny trainings (xxsmall, eight images, three epochs) are killed with SIGKILL: within an optimiser
step, a validation, while the model holds averaged weights, while a checkpoint is half-written, and
at any time from outside. They are resumed with `tools/train.py --resume`, killed again, and
in the end compared bit for bit with one that was left in peace. Exits with status 1 if one differs.

Examples:
    python tools/analysis/fault_campaign.py --kills 12
    python tools/analysis/fault_campaign.py --json kills.json --update docs/training.md
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.faults import TASKS, Campaign, Outcome, kills_table

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, tasks: list[str], kills: int, seed: int) -> dict[str, Outcome]:
    """The outcomes by task; the kills are shared out evenly."""
    outcomes = {}
    with tqdm(total=kills, unit='kill') as bar:
        for i, task in enumerate(tasks):
            campaign = Campaign(ROOT, folder, task, seed)
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
