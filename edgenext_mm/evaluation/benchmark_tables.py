"""What a benchmark measured, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def long_table(rows: Sequence[Row]) -> str:
    """A line for each thing timed, with all there is to say of it."""
    lines = [
        '| runtime | precision | batch | model | median, ms | quartiles | ratio (95%) | images/s '
        '| of peak | memory, MiB |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        low, high = row['quartiles_ms']
        ratio_low, ratio_high = row['time_ratio_95']
        fraction, memory = row['fraction_of_peak'], row['peak_memory_mib']
        lines.append(
            f'| {row["runtime"]} | {row["precision"]} | {row["batch"]} | {row["model"]} '
            f'| {row["median_ms"]:.2f} | {low:.2f} to {high:.2f} | {row["time_ratio"]:.3f} '
            f'({ratio_low:.3f} to {ratio_high:.3f}) | {row["images_per_second"]:.1f} '
            f'| {"" if fraction is None else f"{fraction:.0%}"} '
            f'| {"" if memory is None else memory} |'
        )
    return '\n'.join(lines)


def wide_table(rows: Sequence[Row]) -> str:
    """A line for each model and batch, a column for each runtime and precision: milliseconds, and
    the ratio to the baseline of that runtime."""
    columns = list(dict.fromkeys((r['runtime'], r['precision']) for r in rows))
    cells = {(r['model'], r['batch'], r['runtime'], r['precision']): r for r in rows}
    several = len({r['batch'] for r in rows}) > 1
    heads = ['model', *(['batch'] if several else []), *(' '.join(c) for c in columns)]
    lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
    for model, batch in dict.fromkeys((r['model'], r['batch']) for r in rows):
        values = [_cell(cells.get((model, batch, *column))) for column in columns]
        lines.append(f'| {" | ".join([model, *([str(batch)] if several else []), *values])} |')
    return '\n'.join(lines)


def _cell(row: Row | None) -> str:
    return '' if row is None else f'{row["median_ms"]:.1f} ({row["time_ratio"]:.2f})'
