r"""Import annotated images: recognise their format, check and split them, write what configs read.

Reads class folders, CSV, YOLO, Pascal VOC, COCO, LabelMe, CVAT, Datumaro, Roboflow exports, masks,
DOTA and roLabelImg; docs/datasets/import.md describes them. Everything that is changed or left out
is in the table at the end and, file by file, in OUT/import.json.

Examples:
    python tools/import_data.py downloads/cells --task detection --out data/cells
    python tools/import_data.py downloads/parts --task rotated-detection --out data/parts --link
    python tools/import_data.py downloads/pets --task classification --out data/pets \
        --split 0.7 0.15 0.15
    python tools/import_data.py downloads/video --task detection --out data/video \
        --group '^(cam\d+)_'
    python tools/import_data.py downloads/roads --task segmentation --out data/roads \
        --classes sky building road --void 3
"""

import shlex
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

from edgenext_mm import ARCHS
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.datasets.custom.proposals import RECIPES
from edgenext_mm.datasets.importing import Summary, import_data
from edgenext_mm.datasets.importing.recognition import FORMATS, TASKS

MAX_SHOWN = 5  #: findings of a kind
MAX_CLASSES = 50


def show(summary: Summary, out: str) -> None:
    splits = summary.splits
    print(f'\n{summary.source}: {summary.format}, {summary.task}\n')
    width = max([len(name) for name in summary.classes[:MAX_CLASSES]] + [14])
    print(f'{"":{width}}' + ''.join(f'{split:>10}' for split in splits))
    rows = [('images', 'images'), ('without objects', 'empty')]
    for title, key in rows[: 1 if summary.task == 'classification' else 2]:
        print(f'{title:{width}}' + ''.join(f'{s[key]:>10,}' for s in splits.values()))
    for name in summary.classes[:MAX_CLASSES]:
        counts = ''.join(f'{s["per_class"].get(name, 0):>10,}' for s in splits.values())
        print(f'{name:{width}}{counts}')
    if len(summary.classes) > MAX_CLASSES:
        print(f'... and {len(summary.classes) - MAX_CLASSES:,} more classes')
    order = dict(changed=0, note=2)
    findings = sorted(summary.findings, key=lambda f: (order.get(f.action, 1), f.kind))
    for (action, kind), group in groupby(findings, lambda f: (f.action, f.kind)):
        members = list(group)
        print(f'\n{action}: {kind}: {len(members):,}')
        for finding in members[:MAX_SHOWN]:
            print(f'  {finding.file} {finding.detail}'.rstrip())
        if len(members) > MAX_SHOWN:
            print(f'  ... and {len(members) - MAX_SHOWN:,} more in {out}/import.json')
    actions = Counter(finding.action for finding in summary.findings)
    total = ', '.join(f'{actions[action]:,} {action}' for action in ('changed', 'left out'))
    print(f'\n{sum(s["images"] for s in splits.values()):,} images written to {out}; {total}.')
    print(f'The config is {Path(out, summary.config)}; train it with')
    print(f'    python tools/train.py {shlex.quote(str(Path(out, summary.config)))}')


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('source', help='folder of images and annotations, or an annotation file')
    parser.add_argument(
        '--task', required=True, choices=TASKS, type=lambda text: text.replace('_', '-')
    )
    parser.add_argument('--out', required=True, help='new folder to write to')
    parser.add_argument(
        '--format',
        default='auto',
        choices=['auto', *FORMATS],
        metavar='FORMAT',
        help=f'auto (default) or one of {", ".join(FORMATS)}',
    )
    parser.add_argument(
        '--split',
        nargs='+',
        type=float,
        metavar='FRACTION',
        help='fractions of train, val and, perhaps, test (default: the splits of the source, else '
        '0.8 0.2)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split (default: 0)')
    parser.add_argument(
        '--group',
        metavar='REGEX',
        help='images whose file names match with the same text stay in one split; the first '
        'group in parentheses counts, if there is one',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='classes to keep, in this order (default: all); for index masks without a table of '
        'names: the names of 0, 1, 2, ...',
    )
    parser.add_argument(
        '--colors', metavar='FILE', help='table of mask colours: CSV with name, r, g, b'
    )
    parser.add_argument(
        '--void',
        nargs='+',
        type=int,
        default=[],
        metavar='VALUE',
        help='mask values to ignore, besides 255',
    )
    parser.add_argument(
        '--recipe',
        choices=[name for recipes in RECIPES.values() for name in recipes],
        help='recipe of the config for training (default: ssdlite for detection, segformer for '
        'segmentation; other tasks have one)',
    )
    parser.add_argument(
        '--arch', default='xxsmall', choices=list(ARCHS), help='EdgeNeXt (default: %(default)s)'
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='write a config for training without ImageNet weights',
    )
    parser.add_argument('--link', action='store_true', help='link images instead of copying them')
    args = parser.parse_args()
    summary = import_data(
        args.source,
        args.task,
        args.out,
        format=args.format,
        split=args.split,
        seed=args.seed,
        group=args.group,
        classes=args.classes,
        colors=args.colors,
        void=args.void,
        link=args.link,
        recipe=args.recipe,
        arch=args.arch,
        pretrained=not args.from_scratch,
        progress=sys.stderr.isatty(),
    )
    show(summary, args.out)


if __name__ == '__main__':
    main()
