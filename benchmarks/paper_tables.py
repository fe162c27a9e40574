"""Lay the paper's tables and figures beside ours: cost, accuracy, latency.

Examples:
    python -m benchmarks.paper_tables --table 3
    python -m benchmarks.paper_tables --table F3 --latency --json
    python tools/test.py CONFIG CHECKPOINT --out results/CONFIG.json
    python -m benchmarks.paper_tables --results results --out docs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn
from tqdm import tqdm

from edgenext_mm.apis.complexity import Complexity, count_complexity
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing

from .figures import draw_figure1, draw_figure3
from .latency import inference_call, interleave
from .models import build_named
from .paper_lines import Line, format_count, format_deviation
from .published import TABLES, Row

#: Metrics in the results of tools/test.py that a table's accuracy may be, by the table's metric.
METRICS = {
    'ImageNet-1K top-1': 'accuracy/top1',
    'box AP': 'coco/bbox_mAP',
    'mIoU': 'mIoU',
    'AP50': 'dota/AP50',
}
PERCENT = {'box AP', 'AP50'}  # fractions in the results of the libraries


def fill_tables(
    numbers: Iterable[str], results: str | Path | None = None, rounds: int = 0
) -> dict[str, list[Line]]:
    """Counts, measures and reads what belongs beside the published figures.

    Args:
        numbers: Keys of :data:`~benchmarks.published.TABLES`.
        results: Folder of results of ``tools/test.py``, each ``CONFIG_NAME.json``.
        rounds: Of timing; 0 measures no latency. Only classifiers are timed.

    Raises:
        UserError: If there is no such table, or no such folder.
    """
    numbers = list(numbers)
    unknown = [n for n in numbers if n not in TABLES]
    if unknown:
        raise UserError(f'There is no table {unknown[0]!r}. Choose from {", ".join(TABLES)}.')
    if results is not None and not Path(results).is_dir():
        raise UserError(f'There is no folder {results} of results.')
    rows = {_key(row): row for n in numbers for row in TABLES[n].rows if row.model}
    costs = {
        key: _count(row)
        for key, row in tqdm(rows.items(), desc='counting', unit='model', leave=False)
    }
    timed = {key: row for key, row in rows.items() if _is_classifier(row)}
    times = _time(timed, rounds) if rounds else {}
    return {
        n: [
            Line(
                row,
                params=costs[_key(row)].params if row.model else None,
                madds=costs[_key(row)].madds if row.model else None,
                attention=costs[_key(row)].attention if row.model else 0,
                accuracy=_accuracy(row, TABLES[n].metric, results),
                latency_ms=times.get(_key(row)),
            )
            for row in TABLES[n].rows
        ]
        for n in numbers
    }


def _is_classifier(row: Row) -> bool:
    return row.model is not None and (row.model.startswith('timm:') or '_in1k' in row.model)


def _key(row: Row) -> str:
    return f'{row.model} {row.shape} {json.dumps(row.options)}'


def _build(row: Row) -> nn.Module:
    assert row.model is not None
    return build_named(row.model, row.options)


def _count(row: Row) -> Complexity:
    model = _build(row)
    return count_complexity(model, row.shape, openmmlab=isinstance(model, BaseModel))


def _time(rows: Mapping[str, Row], rounds: int) -> dict[str, float]:
    calls = {
        key: inference_call(_build(row), torch.randn(1, 3, *row.shape)) for key, row in rows.items()
    }
    return {key: t.median * 1e3 for key, t in interleave(calls, rounds, warmup=3).items()}


def _accuracy(row: Row, metric: str, results: str | Path | None) -> float | None:
    path = Path(results or '', f'{row.model}.json')
    if results is None or row.options or not path.is_file():
        return None
    found = json.loads(path.read_text())
    if METRICS[metric] not in found:
        raise UserError(
            f'{path} has no {METRICS[metric]!r}; it holds {", ".join(found)}. It should be what '
            f'`tools/test.py {row.model} CHECKPOINT --out {path}` writes.'
        )
    return found[METRICS[metric]] * (100 if metric in PERCENT else 1)


def to_json(tables: Mapping[str, list[Line]]) -> str:
    """The filled tables as JSON."""
    plain = {number: [asdict(line) for line in lines] for number, lines in tables.items()}
    return json.dumps(plain, indent=2)


def to_markdown(number: str, lines: list[Line]) -> str:
    """A filled table in Markdown, with its heading and note."""
    table = TABLES[number]
    devices = [*dict.fromkeys(device for line in lines for device in line.row.latency)]
    timed = any(line.latency_ms is not None for line in lines)
    head = ['model', 'input', 'parameters', 'ours', 'off by', 'MAdds', 'ours', 'off by']
    head += [table.metric, 'ours', *devices, *(['CPU here, ms'] if timed else [])]
    rows = [head, ['---'] * len(head)]
    for line in lines:
        row = line.row
        cells = [row.name, 'x'.join(map(str, row.shape)) if row.model else '']
        for published, ours in ((row.params, line.params), (row.madds, line.madds)):
            cells += [published, format_count(ours), format_deviation(published, ours)]
        cells += [row.accuracy, '' if line.accuracy is None else f'{line.accuracy:.2f}']
        cells += [row.latency.get(device, '') for device in devices]
        if timed:
            cells.append('' if line.latency_ms is None else f'{line.latency_ms:.1f}')
        rows.append(cells)
    title = table.title if not number.isdigit() else f'Table {number}: {table.title}'
    body = '\n'.join(f'| {" | ".join(cells)} |' for cells in rows)
    notes = [note for note in (table.note, _without_attention(lines)) if note]
    return '\n\n'.join([f'## {title}', body, *notes]) + '\n'


def _without_attention(lines: list[Line]) -> str:
    """What the published MAdds of other models seem to leave out."""
    told = [
        f'{line.row.name} {format_count(rest)} ({format_deviation(line.row.madds, rest)})'
        for line in lines
        if line.madds and line.row.madds and (rest := line.madds - line.attention) < line.madds
    ]
    return f'Without the products of attention: {", ".join(told)}.' if told else ''


def to_document(tables: Mapping[str, list[Line]]) -> str:
    """A page of all tables, with the figures."""
    parts: list[Any] = [
        '# The paper, side by side\n',
        'Written by `python -m benchmarks.paper_tables --out docs`; edits are lost. Columns '
        "before an 'ours' are published figures, 'off by' is 0 where ours prints alike at their "
        'precision. Parameters and MAdds are counted by `edgenext_mm/apis/complexity.py`, '
        'of all models alike. Accuracies of ours come from result files of `tools/test.py` '
        '(`--results`) and are empty where there is none; what is published nowhere that we '
        'know of is empty, too.\n',
    ]
    for number, lines in tables.items():
        parts.append(to_markdown(number, lines))
    parts.append(
        '## Figure 1 and Figure 3\n\n![accuracy over MAdds](figures/figure1.svg)\n\n'
        '![latency over accuracy](figures/figure3.svg)\n'
    )
    return '\n'.join(parts)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--table', nargs='+', metavar='N', help=f'some of {", ".join(TABLES)} (default: all)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write paper_tables.md, and figures/ as SVG and PNG (all tables)',
    )
    parser.add_argument(
        '--results', metavar='DIR', help='folder of results of tools/test.py: CONFIG_NAME.json'
    )
    parser.add_argument(
        '--latency', action='store_true', help='time the classifiers on this CPU, batch 1'
    )
    parser.add_argument('--rounds', type=int, default=30, help='of timing (default: 30)')
    parser.add_argument('--threads', type=int, default=2, help='of the CPU (default: 2)')
    args = parser.parse_args()
    if args.out and args.table:
        parser.error('--out writes all tables; leave --table out')
    torch.set_num_threads(args.threads)
    tables = fill_tables(args.table or TABLES, args.results, args.rounds if args.latency else 0)
    if args.json:
        print(to_json(tables))
    elif not args.out:
        print('\n'.join(to_markdown(number, lines) for number, lines in tables.items()))
    if args.out:
        folder = Path(args.out, 'figures')
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ('svg', 'png'):
            draw_figure1([*tables['2'], *tables['3']], folder / f'figure1.{suffix}')
            draw_figure3(tables['F3'], folder / f'figure3.{suffix}')
        with replacing(Path(args.out, 'paper_tables.md')) as temporary:
            temporary.write_text(to_document(tables))


if __name__ == '__main__':
    main()
