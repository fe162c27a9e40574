"""Pictures of results, for one image or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..datasets.images import read_image
from ..errors import UserError
from ..runtime.results import Result, class_name, is_class
from ..runtime.sources import ImageSource
from .draw import add_legend, draw, num_panels
from .figure import new_figure, save

#: Maximum number of images in an overview: classified ones, and those of other tasks.
MAX_CLASSIFIED, MAX_DENSE = 48, 12


def plot_predictions(
    sources: Sequence[ImageSource],
    results: Sequence[Result],
    classes: Sequence[str],
    folder: str | os.PathLike[str],
    title: str = '',
    read: Callable[[ImageSource], np.ndarray] = read_image,
) -> list[Path]:
    """Draws an overview of results, and one picture per image if the results are not only classes.

    Args:
        sources: Images that ``inference_model`` was given, as a list.
        results: Results that it returned; images that failed are left out.
        classes: Class names. If the folder of a classified image has the name of a class, that is
            its true class.
        folder: Folder for ``predictions.png`` and ``predictions/NAME.png``.
        title: Title of the overview. Default: none.
        read: Reads an image as the model sees it, (H, W) or (H, W, C). Default:
            :func:`~edgenext_mm.datasets.images.read_image`.

    Returns:
        The path of the overview, and the folder of the other pictures if there are any.

    Raises:
        UserError: If a picture would replace one of the images; then none is written. Also if some
            pictures cannot be drawn; then the others are written.
    """
    overview, single = Path(folder) / 'predictions.png', Path(folder) / 'predictions'
    good = [i for i, result in enumerate(results) if 'error' not in result]
    names = picture_names(sources)
    names = [names[i] for i in good]
    sources, results = [sources[i] for i in good], [results[i] for i in good]
    if not results:
        return []
    parents = [Path(str(source)).parent.name for source in sources]
    truths = [
        parent if parent in classes and 'pred_label' in result else None
        for parent, result in zip(parents, results, strict=True)
    ]
    dense = not is_class(results[0])
    pictures = [(overview, choose(results, truths))]
    if dense:
        pictures += [(single / f'{name}.png', [i]) for i, name in enumerate(names)]
    inputs = {Path(source).resolve() for source in sources if isinstance(source, (str, Path))}
    if taken := [path for path, _ in pictures if path.resolve() in inputs]:
        raise UserError(
            f'{taken[0]} is one of the images; no picture was written. Give another folder (--out).'
        )
    failures = []
    for path, shown in pictures:
        try:
            images = [read(sources[i]) for i in shown]
            if path == overview:
                chosen = [results[i] for i in shown]
                plot_grid(images, chosen, path, [truths[i] for i in shown], title)
            else:
                plot_result(images[0], results[shown[0]], path)
        except Exception as error:  # the other pictures are still drawn
            failures.append(f'{path} ({type(error).__name__}: {error})')
    if failures:
        raise UserError(f'{len(failures)} pictures cannot be drawn: {"; ".join(failures)[:2000]}')
    return [overview, single] if dense else [overview]


def picture_names(sources: Sequence[ImageSource]) -> list[str]:
    """Returns names for pictures: those of the images, numbered if they are not unique."""
    paths = [Path(s) if isinstance(s, (str, Path)) else Path('image') for s in sources]
    for names in ([p.stem[:100] for p in paths], [p.name[:100] for p in paths]):
        if len({name.lower() for name in names}) == len(names):  # some file systems ignore case
            return names
    return [f'{i:04d}_{path.stem[:100]}' for i, path in enumerate(paths)]


def choose(results: Sequence[Result], truths: Sequence[str | None]) -> list[int]:
    """Returns the indices of the results to draw in an overview.

    Wrongly classified images come first; the others are spread evenly.

    Args:
        results: Results of one task.
        truths: Names of the true classes, None where unknown.
    """
    dense = not is_class(results[0])
    limit = MAX_DENSE if dense else MAX_CLASSIFIED
    wrong = [
        i
        for i, (result, truth) in enumerate(zip(results, truths, strict=True))
        if not dense and truth is not None and class_name(result) != truth
    ][:limit]
    rest = [i for i in range(len(results)) if i not in set(wrong)]
    count = min(limit - len(wrong), len(rest))
    spread = np.linspace(0, len(rest) - 1, count).round().astype(int) if count else []
    return wrong + [rest[i] for i in spread]


def plot_grid(
    images: Sequence[np.ndarray],
    results: Sequence[Result],
    path: str | os.PathLike[str],
    truths: Sequence[str | None] | None = None,
    title: str = '',
) -> None:
    """Draws images with their results side by side.

    Args:
        images: Images, (H, W) or (H, W, C), blue-green-red; see
            :func:`~edgenext_mm.visualization.draw.displayable`.
        results: One result per image, of one task; see :mod:`~edgenext_mm.runtime.results`.
        path: PNG, SVG or PDF file to write.
        truths: Names of the true classes of classified images. Default: unknown.
        title: Title of the figure. Default: none.
    """
    truths = truths or [None] * len(images)
    panels = num_panels(results[0])
    small = is_class(results[0])
    columns = min(8 if small else 4 // panels, len(images)) * panels
    rows = -(-len(images) * panels // columns)
    side, text = (1.35, 0.3) if small else (3.0, 0.0)
    figure = new_figure(side * columns + 0.3, (side + text) * rows + 0.5)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.axis('off')
    for i, (image, result, truth) in enumerate(zip(images, results, truths, strict=True)):
        draw(axes[i * panels : (i + 1) * panels], image, result, truth)
    add_legend(figure, results)
    save(figure, path)


def plot_result(image: np.ndarray, result: Result, path: str | os.PathLike[str]) -> None:
    """Draws one image with its result at about the size of the image, at least 640 pixels wide.

    Args:
        image: Image, (H, W) or (H, W, C), blue-green-red.
        result: Its result, see :mod:`~edgenext_mm.runtime.results`.
        path: PNG, SVG or PDF file to write.
    """
    panels, (height, width) = num_panels(result), image.shape[:2]
    inches = max(width, 640) / 120
    figure = new_figure(inches * panels, inches * height / width)
    draw(figure.subplots(1, panels, squeeze=False)[0].tolist(), image, result)
    add_legend(figure, [result])
    save(figure, path)
