"""Print the paper's tables and figures with our numbers beside: cost, accuracy, latency.

Examples:
    python -m benchmarks.paper_tables --table 3
    python -m benchmarks.paper_tables --table F3 --latency --json
    python tools/test.py CONFIG CHECKPOINT --out results/CONFIG.json
    python -m benchmarks.paper_tables --results results --out docs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.model import BaseModel
from torch import nn
from tqdm import tqdm

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing

from .documents import markdown_table
from .figures import draw_figure1, draw_figure3
from .latency import inference_call, interleave
from .models import build_named
from .published import TABLES, Row, deviation, format_count

#: Names of the tables' metrics in the results of tools/test.py.
METRICS = {
    'ImageNet-1K top-1': 'accuracy/top1',
    'box AP': 'coco/bbox_mAP',
    'mIoU': 'mIoU',
    'AP50': 'dota/AP50',
}
FRACTIONS = {'box AP', 'AP50'}  # in the results of the libraries; published in percent


@dataclass
class Line:
    """A row of a table with our numbers. They are None for models that we do not have.

    Args:
        row: The published row.
        params: Our number of parameters.
        madds: Our number of multiply-adds.
        attention: Number of multiply-adds in products of attention.
        accuracy: Our accuracy in percent, None if there is no result.
        latency_ms: Median latency on this machine, None if it was not measured.
    """

    row: Row
    params: int | None = None
    madds: int | None = None
    attention: int = 0
    accuracy: float | None = None
    latency_ms: float | None = None


def fill_tables(
    numbers: Iterable[str], results: str | Path | None = None, rounds: int = 0
) -> dict[str, list[Line]]:
    """Counts, measures and reads our numbers for published tables.

    Args:
        numbers: Keys of :data:`~benchmarks.published.TABLES`.
        results: Folder with results of ``tools/test.py``, named ``CONFIG_NAME.json``. Default:
            none, which leaves the accuracies empty.
        rounds: Rounds of timing; 0 measures no latency. Only classifiers are timed. Default: 0.

    Raises:
        UserError: If a table or the folder does not exist.
    """
    numbers = list(numbers)
    if unknown := [n for n in numbers if n not in TABLES]:
        raise UserError(f'There is no table {unknown[0]!r}. Choose from {", ".join(TABLES)}.')
    if results is not None and not Path(results).is_dir():
        raise UserError(f'The folder of results {results} does not exist.')
    rows = {_key(row): row for n in numbers for row in TABLES[n].rows if row.model}
    numbers_of: dict[str, dict] = {}
    for key, row in tqdm(rows.items(), desc='counting', unit='model', leave=False):
        model = _build(row)
        cost = count_complexity(model, row.shape, openmmlab=isinstance(model, BaseModel))
        numbers_of[key] = dict(params=cost.params, madds=cost.madds, attention=cost.attention)
    if rounds:
        calls = {
            key: inference_call(_build(row), torch.randn(1, 3, *row.shape))
            for key, row in rows.items()
            if row.model and (row.model.startswith('timm:') or '_in1k' in row.model)
        }
        for key, timing in interleave(calls, rounds, warmup=3).items():
            numbers_of[key]['latency_ms'] = timing.median * 1e3
    return {
        n: [
            Line(
                row,
                accuracy=_accuracy(row, TABLES[n].metric, results),
                **numbers_of.get(_key(row), {}),
            )
            for row in TABLES[n].rows
        ]
        for n in numbers
    }


def _key(row: Row) -> str:
    return f'{row.model} {row.shape} {json.dumps(row.options)}'


def _build(row: Row) -> nn.Module:
    assert row.model is not None
    return build_named(row.model, row.options)


def _accuracy(row: Row, metric: str, results: str | Path | None) -> float | None:
    path = Path(results or '', f'{row.model}.json')
    if results is None or row.options or not path.is_file():
        return None
    found = json.loads(path.read_text())
    if METRICS[metric] not in found:
        raise UserError(
            f'{path} has no {METRICS[metric]!r}, only {", ".join(found)}. Write it with '
            f'`tools/test.py {row.model} CHECKPOINT --out {path}`.'
        )
    return found[METRICS[metric]] * (100 if metric in FRACTIONS else 1)


def to_markdown(number: str, lines: list[Line]) -> str:
    """Formats a filled table with its heading and notes in Markdown.

    Args:
        number: Key of :data:`~benchmarks.published.TABLES`.
        lines: The table's rows.
    """
    table = TABLES[number]
    devices = [*dict.fromkeys(device for line in lines for device in line.row.latency)]
    timed = any(line.latency_ms is not None for line in lines)
    head = ['model', 'input', 'parameters', 'ours', 'off by', 'MAdds', 'ours', 'off by']
    head += [table.metric, 'ours', *devices, *(['CPU here, ms'] if timed else [])]
    rows = []
    for line in lines:
        row = line.row
        cells = [row.name, 'x'.join(map(str, row.shape)) if row.model else '']
        for published, ours in ((row.params, line.params), (row.madds, line.madds)):
            cells += [published, format_count(ours), _off_by(published, ours)]
        cells += [row.accuracy, '' if line.accuracy is None else f'{line.accuracy:.2f}']
        cells += [row.latency.get(device, '') for device in devices]
        if timed:
            cells.append('' if line.latency_ms is None else f'{line.latency_ms:.1f}')
        rows.append(cells)
    # The published MAdds of other models seem to leave out these products.
    without = [
        f'{line.row.name} {format_count(rest)} ({_off_by(line.row.madds, rest)})'
        for line in lines
        if line.row.madds and line.attention and (rest := (line.madds or 0) - line.attention)
    ]
    title = f'Table {number}: {table.title}' if number.isdigit() else table.title
    parts = [f'## {title}', markdown_table(head, rows), *([table.note] if table.note else [])]
    if without:
        parts.append(f'Without the products of attention: {", ".join(without)}.')
    return '\n\n'.join(parts) + '\n'


def _off_by(published: str, ours: int | None) -> str:
    if not published or ours is None:
        return ''
    return f'{deviation(published, ours):+.1%}'.replace('+0.0%', '0').replace('-0.0%', '0')


def to_document(tables: Mapping[str, list[Line]]) -> str:
    """Formats a page with all tables and the figures in Markdown."""
    parts = [
        '# The paper, side by side\n',
        'Written by `python -m benchmarks.paper_tables --out docs`; edits are lost. Columns '
        "before an 'ours' are published figures. 'off by' is 0 where ours is equal at the "
        'published precision. Parameters and MAdds of all models are counted by '
        '`edgenext_mm/apis/complexity.py`. Our accuracies come from result files of '
        '`tools/test.py` (`--results`) and are empty where there is none. Figures that were '
        'never published, as far as we know, are empty, too.\n',
        *(to_markdown(number, lines) for number, lines in tables.items()),
        '## Figure 1 and Figure 3\n\n![accuracy over MAdds](figures/figure1.svg)\n\n'
        '![latency over accuracy](figures/figure3.svg)\n',
    ]
    return '\n'.join(parts)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--table', nargs='+', metavar='N', help=f'some of {", ".join(TABLES)} (default: all)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--out', metavar='DIR', help='write all tables to paper_tables.md, and figures/'
    )
    parser.add_argument(
        '--results', metavar='DIR', help='folder with results of tools/test.py: CONFIG_NAME.json'
    )
    parser.add_argument(
        '--latency', action='store_true', help='time the classifiers on this CPU, batch 1'
    )
    parser.add_argument('--rounds', type=int, default=30, help='rounds of timing (default: 30)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    args = parser.parse_args()
    if args.out and args.table:
        parser.error('--out writes all tables; leave --table out')
    torch.set_num_threads(args.threads)
    tables = fill_tables(args.table or TABLES, args.results, args.rounds if args.latency else 0)
    if args.json:
        plain = {number: [asdict(line) for line in lines] for number, lines in tables.items()}
        print(json.dumps(plain, indent=2))
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
