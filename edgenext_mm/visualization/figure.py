"""Matplotlib without a screen, and files that appear whole."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the figure; a file that was there stays until the new one is complete.

    Args:
        figure: Of :func:`new_figure`.
        path: Its ending tells the format; with another ending, or none, it is a PNG.
    """
    ending = Path(path).suffix[1:].lower()
    kind = ending if ending in figure.canvas.get_supported_filetypes() else 'png'
    # An SVG is alike whenever and wherever it is drawn.
    metadata = {'Date': None} if kind == 'svg' else None
    with replacing(path) as temporary, rc_context({'svg.hashsalt': 'edgenext_mm'}):
        figure.savefig(temporary, dpi=120, format=kind, metadata=metadata)
