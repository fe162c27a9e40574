"""Write the tables of all trainings of benchmarks.public_data into a document.

Example:
    python -m benchmarks.public_tables --update docs/results.md
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.errors import UserError

from . import public_data
from .documents import markdown_table, update_table
from .public_data import OURS, PEERS, SETS

Records = list[dict[str, Any]]


def read_records() -> Records:
    """Returns all records: sets and backbones in their order, by recipe and seed.

    Raises:
        UserError: If there is none.
    """
    records = [json.loads(path.read_text()) for path in public_data.RECORDS.glob('*.json')]
    if not records:
        raise UserError(f'{public_data.RECORDS} holds no record. Train first.')
    sets, models = list(SETS), [OURS, *PEERS]

    def place(record: dict[str, Any]) -> tuple:
        order = sets.index(record['set']), models.index(record['model'])
        return *order, record['recipe'] or '', record['recipe_anchors'], record['seed']

    return sorted(records, key=place)


def by_backbone(records: Records) -> Iterator[Records]:
    """Yields the records of all seeds of each set, backbone, recipe and kind of anchors."""
    groups: dict[tuple, Records] = defaultdict(list)
    for record in records:
        kind = (record[key] for key in ('set', 'model', 'recipe', 'recipe_anchors'))
        groups[tuple(kind)].append(record)
    yield from groups.values()


def results_table(short: bool) -> str:
    """Returns the table of the full or the short trainings."""
    chosen = [r for r in read_records() if r['short'] == short]
    own_recipe = [r for r in chosen if not r['recipe'] and not r['recipe_anchors']]
    rows = [
        [
            seeds[0]['set'],
            seeds[0]['model'],
            seeds[0]['metric'],
            mean_of_seeds(seeds),
            f'{seeds[0]["parameters"] / 1e6:.2f}M',
            f'{seeds[0]["madds"] / 1e9:.3f}G',
            f'{statistics.median(r["latency_ms"] for r in seeds):.1f} ms',
            'x'.join(map(str, seeds[0]['image_size'])),
            f'{seeds[0]["images"]:,}',
            f'{statistics.mean(r["cpu_minutes"] for r in seeds):.0f} min',
        ]
        for seeds in by_backbone(own_recipe)
    ]
    head = ['set', 'backbone', 'metric', 'mean (seeds)', 'parameters', 'MAdds', 'latency']
    return markdown_table([*head, 'input', 'images seen', 'CPU time'], rows)


def curves_table() -> str:
    """Returns the metric during the full trainings of ours, mean over the seeds."""
    full = [r for r in read_records() if not r['short'] and r['model'] == OURS]
    rows = []
    for seeds in by_backbone(full):
        means = map(statistics.mean, zip(*(r['curve'] for r in seeds), strict=True))
        shown = [number(value) for value in means]
        rows.append([seeds[0]['set'], seeds[0]['metric'], str(len(seeds)), *shown[-5:]])
    parts = [f'{part}%' for part in range(20, 101, 20)]
    return markdown_table(['set', 'metric', 'seeds', *parts], rows)


def anchors_table() -> str:
    """Returns the table of fitted anchors and those of the recipes."""
    groups = list(by_backbone([r for r in read_records() if r['short']]))
    fitted = {kind(seeds): seeds for seeds in groups if not seeds[0]['recipe_anchors']}
    rows = [
        [
            seeds[0]['set'],
            seeds[0]['recipe'] or SETS[seeds[0]['set']].options['recipe'],
            seeds[0]['metric'],
            mean_of_seeds(fitted[kind(seeds)]),
            mean_of_seeds(seeds),
        ]
        for seeds in groups
        if seeds[0]['recipe_anchors'] and kind(seeds) in fitted
    ]
    return markdown_table(['set', 'recipe', 'metric', 'fitted', "recipe's"], rows)


def kind(seeds: Records) -> tuple:
    """What trainings with both kinds of anchors have in common."""
    return tuple(seeds[0][key] for key in ('set', 'model', 'recipe'))


def thresholds_table() -> str:
    """Returns F1 at the threshold that the reports propose and at 0.3."""
    rows = [
        [
            record['set'],
            str(record['seed']),
            f'{record["report threshold"]:.3f}',
            f'{record["report F1 at the best threshold"]:.3f}',
            f'{record["report F1 at 0.3"]:.3f}',
        ]
        for record in read_records()
        if 'report F1 at 0.3' in record
    ]
    return markdown_table(['set', 'seed', 'threshold', 'F1', 'F1 at 0.3'], rows)


def mean_of_seeds(records: Sequence[dict[str, Any]]) -> str:
    """Returns the mean of the metric and, of several seeds, each value."""
    values = [record['final'] for record in records]
    each = f' ({", ".join(map(number, values))})' * (len(values) > 1)
    return f'{number(statistics.mean(values))}{each}'


def number(value: float) -> str:
    """Returns a metric in percent with one digit, and one between 0 and 1 with three."""
    return f'{value:.{1 if value > 1 else 3}f}'


TABLES: dict[str, Callable[[], str]] = {
    'full': lambda: results_table(short=False),
    'short': lambda: results_table(short=True),
    'curves': curves_table,
    'anchors': anchors_table,
    'thresholds': thresholds_table,
}


@reports_errors
def main() -> None:
    """Writes all tables."""
    parser = make_parser(__doc__)
    parser.add_argument('--update', metavar='FILE', required=True, help='the document')
    args = parser.parse_args()
    for name, table in TABLES.items():
        update_table(args.update, name, table())


if __name__ == '__main__':
    main()
