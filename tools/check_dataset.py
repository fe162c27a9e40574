"""Check that a config's data is where it is looked for, fits the config, and is whole.

Reads every file of every split as training would, and says of each fault which file it is in;
docs/datasets/checking.md explains the kinds. Exits with status 1 where there is an error; warnings
do not count.

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
from dataclasses import asdict
from itertools import groupby

from mmengine.config import Config

from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data, describe_data
from edgenext_mm.datasets.checks.inspection import SplitReport, inspect_data
from edgenext_mm.errors import UserError

MAX_SHOWN = 20  #: findings of a kind


def check_quickly(config: Config, splits: list[str]) -> bool:
    """Prints what the start of a training would say; returns whether all is well."""
    well = True
    for split in splits:
        try:
            check_data(config, split)
            print(f'ok       {split}: {describe_data(config, split)}')
        except UserError as error:
            well = False
            print(f'PROBLEM  {split}: {error}')
    return well


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
    ordered = sorted(report.findings, key=lambda finding: (finding.severity, finding.kind))
    for (severity, kind), group in groupby(
        ordered, lambda finding: (finding.severity, finding.kind)
    ):
        findings = list(group)
        for finding in findings[:MAX_SHOWN]:
            print(f'  {severity:7} {kind}: {finding.file} {finding.detail}')
        if len(findings) > MAX_SHOWN:
            print(f'  {severity:7} {kind}: {len(findings) - MAX_SHOWN:,} more, which --json lists')


def to_dict(report: SplitReport) -> dict:
    return dict(
        images=report.num_images,
        errors=report.count('error'),
        warnings=report.count('warning'),
        classes=report.num_per_class,
        findings=[dict(asdict(finding), severity=finding.severity) for finding in report.findings],
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
        help='processes that read (default: one per core, %(default)s)',
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--json', action='store_true', help='print one JSON document')
    how.add_argument('--quick', action='store_true', help='read no image: seconds, not minutes')
    args = parser.parse_args()
    config = load_config(find_config(args.config), args.cfg_options)
    if args.quick:
        sys.exit(not check_quickly(config, args.splits))
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints what it is doing
        reports = inspect_data(config, args.splits, args.workers, progress=True)
    if args.json:
        print(json.dumps({split: to_dict(report) for split, report in reports.items()}, indent=1))
    else:
        for report in reports.values():
            show(report)
    sys.exit(any(report.count('error') for report in reports.values()))


if __name__ == '__main__':
    main()
