"""Check that the data of a config exist, fit the config and can be read.

Reads every file of every split as training does, and prints the file of each fault;
docs/datasets/checking.md explains the kinds of faults. Exits with status 1 if there is an error;
warnings do not count.

Examples:
    python tools/check_dataset.py configs/detection/ssdlite_edgenext-small_4xb32-200e_coco.py
    python tools/check_dataset.py CONFIG --splits val test --workers 8
    python tools/check_dataset.py CONFIG --json > faults.json
    python tools/check_dataset.py CONFIG --quick     # what training checks when it starts
"""

import contextlib
import json
import os
import sys
from itertools import groupby
from operator import attrgetter

from mmengine.config import Config

from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data, describe_data
from edgenext_mm.datasets.checks.inspection import SplitReport, inspect_data
from edgenext_mm.errors import UserError

MAX_SHOWN = 20  # faults of a kind


def check_quickly(config: Config, splits: list[str]) -> tuple[list[str], bool]:
    """Runs the checks at the start of a training: a line per split, and whether all pass."""
    lines, passed = [], True
    for split in splits:
        try:
            check_data(config, split)
            lines.append(f'ok       {split}: {describe_data(config, split)}')
        except UserError as error:
            passed = False
            lines.append(f'PROBLEM  {split}: {error}')
    return lines, passed


def show(report: SplitReport) -> None:
    errors, warnings = report.count('error'), report.count('warning')
    counts = report.num_per_class
    print(
        f'{"PROBLEM" if errors else "ok":8} {report.split}: {report.num_images:,} images, '
        f'{len(counts):,} classes, {errors:,} errors, {warnings:,} warnings'
    )
    if counts:
        shown = ', '.join(f'{name} {count:,}' for name, count in counts.most_common(MAX_SHOWN))
        print(f'         per class: {shown}' + (', ...' if len(counts) > MAX_SHOWN else ''))
    ordered = sorted(report.problems, key=attrgetter('severity', 'kind'))
    for (severity, kind), group in groupby(ordered, attrgetter('severity', 'kind')):
        problems = list(group)
        for problem in problems[:MAX_SHOWN]:
            print(f'  {severity:7} {kind}: {problem}')
        if len(problems) > MAX_SHOWN:
            print(f'  {severity:7} {kind}: {len(problems) - MAX_SHOWN:,} more, which --json lists')


def to_dict(report: SplitReport) -> dict:
    return dict(
        images=report.num_images,
        errors=report.count('error'),
        warnings=report.count('warning'),
        classes=report.num_per_class,
        findings=[
            dict(split=report.split, file=p.file, kind=p.kind, detail=p.detail, severity=p.severity)
            for p in report.problems
        ],
    )


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    splits = ['train', 'val', 'test']
    parser.add_argument('--splits', nargs='+', choices=splits, default=splits)
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count() or 1,
        help='number of processes that read (default: one per core, %(default)s)',
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--json', action='store_true', help='print one JSON document')
    how.add_argument('--quick', action='store_true', help='do not read images; takes seconds')
    args = parser.parse_args()
    config = load_config(find_config(args.config), args.cfg_options)
    if args.quick:
        with contextlib.redirect_stdout(sys.stderr):  # mmdet and pycocotools print their progress
            lines, passed = check_quickly(config, args.splits)
        print(*lines, sep='\n')
        sys.exit(not passed)
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints its progress
        reports = inspect_data(config, args.splits, args.workers, progress=True)
    if args.json:
        print(json.dumps({split: to_dict(report) for split, report in reports.items()}, indent=1))
    else:
        for report in reports.values():
            show(report)
    sys.exit(any(report.count('error') for report in reports.values()))


if __name__ == '__main__':
    main()
