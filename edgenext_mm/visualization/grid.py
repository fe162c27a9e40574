"""Images with their predicted classes, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..apis.images import ImageSource, read_image
from .figure import new_figure, save

RIGHT, WRONG, UNKNOWN = 'tab:green', 'tab:red', 'black'


def plot_predictions(
    sources: Sequence[ImageSource],
    results: Sequence[dict[str, Any]],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    title: str = '',
) -> None:
    """Draws classified images; the folder of an image tells its true class if it is named so.

    Args:
        sources: What ``inference_model`` was given, as a list.
        results: What it returned.
        classes: Names of the classes.
        path: The file to write.
        title: Printed above the grid.
    """
    folders = [Path(str(source)).parent.name for source in sources]
    truths = [folder if folder in classes else None for folder in folders]
    plot_grid([read_image(source) for source in sources], results, truths, path, title)


def plot_grid(
    images: Sequence[np.ndarray],
    results: Sequence[dict[str, Any]],
    truths: Sequence[str | None],
    path: str | os.PathLike[str],
    title: str = '',
    limit: int = 48,
    columns: int = 8,
) -> None:
    """Draws a grid of classified images to a PNG, SVG or PDF.

    Where the truth is known, wrong ones come first, with the truth beside the prediction; the
    rest are spread evenly over what was given.

    Args:
        images: (H, W, 3) uint8 images, blue-green-red.
        results: What ``inference_model`` returned for each.
        truths: The name of each image's true class, or None.
        path: The file to write.
        title: Printed above the grid.
        limit: Images to draw at most. Default: 48.
        columns: Images per row. Default: 8.
    """
    names = [str(result.get('pred_class', result['pred_label'])) for result in results]
    order = _choose(names, truths, limit)
    columns = min(columns, len(order))
    rows = -(-len(order) // columns)
    figure = new_figure(1.35 * columns + 0.3, 1.65 * rows + 0.5)
    figure.suptitle(title)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes:
        axis.axis('off')
    for axis, i in zip(axes, order, strict=False):
        axis.imshow(images[i][..., ::-1], interpolation='bicubic')
        label, color = f'{names[i]}  {results[i]["pred_score"]:.0%}', UNKNOWN
        if truths[i] is not None:
            color = RIGHT if names[i] == truths[i] else WRONG
            label += f'\n(is {truths[i]})' if color == WRONG else ''
        axis.set_title(label, fontsize=10, color=color)
    save(figure, path)


def _choose(names: Sequence[str], truths: Sequence[str | None], limit: int) -> list[int]:
    wrong = [
        i
        for i, (name, truth) in enumerate(zip(names, truths, strict=True))
        if truth is not None and name != truth
    ][:limit]
    rest = [i for i in range(len(names)) if i not in set(wrong)]
    count = min(limit - len(wrong), len(rest))
    spread = np.linspace(0, len(rest) - 1, count).round().astype(int) if count else []
    return wrong + [rest[i] for i in spread]
