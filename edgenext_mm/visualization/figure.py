"""Figures without a display, written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing


def new_figure(width: float, height: float) -> Figure:
    """Creates an empty figure, in inches, that needs no display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure; an existing file is replaced once the new one is complete.

    Args:
        figure: Figure from :func:`new_figure`.
        path: File to write. Its suffix determines the format; other suffixes mean PNG.
    """
    ending = Path(path).suffix[1:].lower()
    kind = ending if ending in figure.canvas.get_supported_filetypes() else 'png'
    # The same figure gives the same SVG file.
    metadata = {'Date': None} if kind == 'svg' else None
    with replacing(path) as temporary, rc_context({'svg.hashsalt': 'edgenext_mm'}):
        figure.savefig(temporary, dpi=120, format=kind, metadata=metadata)
