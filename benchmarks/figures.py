"""Plots of measured latencies, and Figures 1 and 3 of the paper with our numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from edgenext_mm.visualization.figure import new_figure, save

from .published import A100_SPEED, format_count

if TYPE_CHECKING:
    from .paper_tables import Line


def draw_benchmark(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws median latencies with their quartiles, one panel per batch size, one group per model.

    Args:
        rows: Rows from :func:`benchmarks.speed.run`.
        path: PNG or SVG file to write.
    """
    batches = list(dict.fromkeys(r['batch'] for r in rows))
    models = list(dict.fromkeys(r['model'] for r in rows))
    kinds = list(dict.fromkeys((r['runtime'], r['precision']) for r in rows))
    bars = len(models) * len(kinds)
    figure = new_figure(7.2, 1.2 + len(batches) * max(1.6, 0.16 * bars))
    axes = [figure.add_subplot(len(batches), 1, 1 + i) for i in range(len(batches))]
    thickness = 0.8 / len(kinds)
    for axis, batch in zip(axes, batches, strict=True):
        for i, kind in enumerate(kinds):
            chosen = [
                r for r in rows if r['batch'] == batch and (r['runtime'], r['precision']) == kind
            ]
            medians = [r['median_ms'] for r in chosen]
            low, high = zip(*(r['quartiles_ms'] for r in chosen), strict=True)
            axis.barh(
                [models.index(r['model']) + (i - (len(kinds) - 1) / 2) * thickness for r in chosen],
                medians,
                thickness * 0.95,
                xerr=[
                    [m - v for m, v in zip(medians, low, strict=True)],
                    [v - m for m, v in zip(medians, high, strict=True)],
                ],
                error_kw=dict(lw=0.7),
                label=' '.join(kind),
            )
        axis.set_yticks(range(len(models)), models)
        axis.invert_yaxis()
        axis.set(xlabel=f'ms per call of {batch} image{"s" * (batch > 1)}: median and quartiles')
        axis.grid(axis='x', alpha=0.3)
    axes[0].legend(fontsize=8)
    save(figure, path)


def draw_figure1(lines: Sequence[Line], path: str | os.PathLike[str]) -> None:
    """Draws the published accuracy over our count of MAdds. Labels are parameters.

    Args:
        lines: Rows of Tables 2 and 3. Those without accuracy or cost, and distilled models, are
            left out.
        path: PNG or SVG file to write.
    """
    figure = new_figure(6.4, 4.4)
    axis = figure.subplots()
    families: dict[str, list[Line]] = {}
    for line in lines:
        if line.madds and line.row.accuracy and 'distilled' not in line.row.name:
            families.setdefault(line.row.name.partition('-')[0].split()[0], []).append(line)
    for family, members in families.items():
        points = sorted({(m.madds or 0, float(m.row.accuracy), m.params) for m in members})
        x, y, params = zip(*points, strict=True)
        axis.plot([v / 1e6 for v in x], y, marker='o', label=family)
        for place in zip(x, y, params, strict=True):
            axis.annotate(
                format_count(place[2]),
                (place[0] / 1e6, place[1]),
                xytext=(4, -10),
                textcoords='offset points',
                fontsize=7,
            )
    axis.set(xlabel='MAdds, millions', ylabel='ImageNet-1K top-1, published, %')
    axis.margins(x=0.1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc='lower right')
    save(figure, path)


def draw_figure3(lines: Sequence[Line], path: str | os.PathLike[str]) -> None:
    """Draws latency over accuracy for both norms and activations: published, and ours if measured.

    Args:
        lines: Rows of Figure 3.
        path: PNG or SVG file to write.
    """
    measured = all(line.latency_ms is not None for line in lines)
    figure = new_figure(4.6 * (1 + measured), 3.8)
    axes = [figure.add_subplot(1, 1 + measured, 1 + i) for i in range(1 + measured)]
    _draw_latency(axes[0], lines, [1e6 / float(line.row.latency[A100_SPEED]) for line in lines])
    axes[0].set(title='published', ylabel='A100, us per image')
    if measured:
        _draw_latency(axes[1], lines, [line.latency_ms or 0 for line in lines])
        axes[1].set(title='this machine, CPU, batch 1', ylabel='ms per image')
    save(figure, path)


def _draw_latency(axis: Axes, lines: Sequence[Line], latencies: Sequence[float]) -> None:
    for family in ('LN+GELU', 'BN+Hard-Swish'):
        points = [
            (float(line.row.accuracy), latency)
            for line, latency in zip(lines, latencies, strict=True)
            if line.row.name.endswith(family)
        ]
        axis.plot(*zip(*points, strict=True), marker='o', label=family)
    axis.set(xlabel='ImageNet-1K top-1, published, %')
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
