"""Charts of a report, as SVG that follows the colours of the page."""

from __future__ import annotations

import html
import io
import re
import zlib
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..visualization.figure import new_figure

#: Colour that stands for that of the page's text.
_TEXT = '#0a0b0c'
_STYLE = {
    'text.color': _TEXT,
    'axes.edgecolor': _TEXT,
    'axes.labelcolor': _TEXT,
    'xtick.color': _TEXT,
    'ytick.color': _TEXT,
    'axes.facecolor': 'none',
    'figure.facecolor': 'none',
    'legend.facecolor': 'none',
    'legend.edgecolor': 'none',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'font.size': 9,
    'svg.hashsalt': 'edgenext_mm',
    'svg.fonttype': 'path',
}


def score_chart(curve: dict[str, list[float]], threshold: float | None, title: str) -> str:
    """Draws precision, recall and F1 over the threshold.

    Args:
        curve: From :meth:`~edgenext_mm.report.curves.ScoreCurve.thinned`.
        threshold: Threshold to mark, if any.
        title: Title of the chart.
    """
    precision, recall = np.array(curve['precision']), np.array(curve['recall'])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    with rc_context(_STYLE):
        figure = new_figure(4.2, 2.9)
        axis = figure.subplots()
        for name, values in (('precision', precision), ('recall', recall), ('F1', f1)):
            axis.plot(curve['threshold'], values, label=name)
        if threshold is not None:
            axis.axvline(threshold, color='grey', linestyle=':', linewidth=1)
        axis.set(title=title, xlabel='score threshold', xlim=(0, 1), ylim=(0, 1.02))
        axis.legend()
        return _to_svg(figure)


def precision_recall_chart(curve: dict[str, list[float]]) -> str:
    """Draws precision over recall."""
    with rc_context(_STYLE):
        figure = new_figure(4.2, 2.9)
        axis = figure.subplots()
        axis.plot(curve['recall'], curve['precision'])
        axis.set(
            title='Precision and recall',
            xlabel='recall',
            ylabel='precision',
            xlim=(0, 1),
            ylim=(0, 1.02),
        )
        return _to_svg(figure)


def calibration_chart(calibration: dict[str, Any]) -> str:
    """Draws the share of right predictions over the score."""
    counts = np.array(calibration['counts'], float)
    used = counts > 0
    scores, right = np.array(calibration['scores'])[used], np.array(calibration['right'])[used]
    with rc_context(_STYLE):
        figure = new_figure(4.2, 2.9)
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color='grey', linestyle=':', linewidth=1)
        axis.plot(scores, right, marker='o', markersize=4)
        axis.bar(scores, counts[used] / counts.max(), width=0.02, alpha=0.25, label='predictions')
        axis.set(
            title='Calibration',
            xlabel='mean score',
            ylabel='share of right ones',
            xlim=(0, 1),
            ylim=(0, 1.02),
        )
        axis.legend()
        return _to_svg(figure)


def bar_chart(values: dict[str, float], title: str) -> str:
    """Draws horizontal bars."""
    with rc_context(_STYLE):
        figure = new_figure(4.2, 0.32 * len(values) + 0.7)
        axis = figure.subplots()
        bars = axis.barh(list(values), list(values.values()))
        axis.bar_label(bars, padding=3, fmt='{:,.4g}')
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set(title=title)
        return _to_svg(figure)


def _to_svg(figure: Figure) -> str:
    """Returns an SVG element without a fixed size, in the page's text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg') :].replace(_TEXT, 'currentColor')
    svg = re.sub(r' xmlns:?\w*="[^"]*"', '', svg)
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    # Ids must differ between the charts of a page.
    unique = f'c{zlib.crc32(svg.encode())}_'
    svg = re.sub(r'id="', f'id="{unique}', svg)
    svg = re.sub(r'href="#', f'href="#{unique}', svg.replace('xlink:href', 'href'))
    svg = re.sub(r'url\(#', f'url(#{unique}', svg)
    label = html.escape(figure.axes[0].get_title(), quote=True)
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert view is not None
    opening = f'<svg viewBox="{view[1]}" role="img" aria-label="{label}">'
    return opening + svg[svg.index('>') + 1 :]
