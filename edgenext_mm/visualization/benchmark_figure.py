"""What a benchmark measured, as bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .figure import new_figure, save


def draw_benchmark(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Median latencies with their quartiles, a group for each model, a panel for each batch size.

    Args:
        rows: Of :func:`edgenext_mm.evaluation.benchmark.run`.
        path: PNG or SVG.
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
