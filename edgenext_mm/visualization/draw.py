"""Drawing of an image with its result, for any task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from ..datasets.palette import IGNORED, voc_palette
from ..runtime.results import Result, class_name, label_scores, object_names

RIGHT, WRONG, UNKNOWN = 'tab:green', 'tab:red', 'black'


def num_panels(result: Result) -> int:
    """Returns the number of axes for a result: two for a segmented image (mask and overlay)."""
    return 2 if 'sem_seg' in result else 1


def draw(axes: Sequence[Axes], image: np.ndarray, result: Result, truth: str | None = None) -> None:
    """Draws an image with a result.

    Args:
        axes: Axes to draw on, as many as :func:`num_panels` returns.
        image: Image in the form that :func:`displayable` accepts.
        result: A prediction or the ground truth, see :mod:`~edgenext_mm.runtime.results`.
        truth: Name of the true class of a classified image. Default: None, unknown.
    """
    image = displayable(image)[..., ::-1]
    for axis in axes:
        axis.axis('off')
    if 'sem_seg' in result:
        _draw_segmentation(axes, image, result['sem_seg'])
    elif 'bboxes' in result:
        _draw_objects(axes[0], image, result)
    else:
        _draw_class(axes[0], image, result, truth)


def displayable(image: np.ndarray) -> np.ndarray:
    """Converts an image of any type and number of channels to (H, W, 3) uint8, blue-green-red.

    Args:
        image: (H, W) or (H, W, C), as a loading step or a pipeline returns it. With more than three
            channels the first three are shown, with two the first. Values in the range of eight
            bits, with a margin for photometric transforms, are kept; others are scaled so that the
            lowest becomes 0 and the highest 255.
    """
    image = image if image.ndim == 3 else image[..., None]
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    if not (low >= -255 and 1 < high <= 510):
        values = (values - low) / max(high - low, 1e-12) * 255
    return values.clip(0, 255).astype(np.uint8)


def add_legend(figure: Figure, results: Iterable[Result]) -> None:
    """Adds a legend of all classes in segmented images below a figure."""
    names: dict[int, str] = {}
    for result in results:
        if 'sem_seg' in result:
            classes = result.get('classes', ())
            for value in np.unique(result['sem_seg']).tolist():
                known = value < len(classes)
                names[value] = classes[value] if known else f'{value}'
    if IGNORED in names:
        names[IGNORED] = 'ignored'
    if names:
        colours = voc_palette() / 255
        patches = [
            Patch(facecolor=colours[value % 256], edgecolor='grey', label=name)
            for value, name in sorted(names.items())
        ]
        figure.legend(handles=patches, loc='outside lower center', ncols=6, fontsize=8)


def box_colour(label: int) -> np.ndarray:
    """Returns a bright colour, (3,) float, that differs from those of neighbouring labels."""
    return hsv_to_rgb([label * 0.618 % 1, 0.85, 1.0])


def _draw_class(axis: Axes, image: np.ndarray, result: Result, truth: str | None) -> None:
    axis.imshow(image, interpolation='bicubic')
    name = class_name(result)
    label, colour = name, UNKNOWN
    if 'pred_score' in result:
        label += f'  {result["pred_score"]:.0%}'
    elif 'pred_scores' in result and label_scores(result):
        label = '\n'.join(f'{name}  {score:.0%}' for name, score in label_scores(result))
    if truth is not None:
        colour = RIGHT if name == truth else WRONG
        label += f'\n(is {truth})' if colour == WRONG else ''
    axis.set_title(label, fontsize=10, color=colour)


def _draw_objects(axis: Axes, image: np.ndarray, result: Result) -> None:
    canvas = image.astype(np.float32) / 255
    for mask, label in zip(result.get('masks', ()), result['labels'], strict=False):
        canvas[mask] = 0.5 * canvas[mask] + 0.5 * box_colour(label)
    axis.imshow(canvas, interpolation='nearest')
    axis.autoscale(False)
    names = object_names(result)
    if 'scores' in result:
        names = [f'{name} {score:.0%}' for name, score in zip(names, result['scores'], strict=True)]
    for box, label, name in zip(result['bboxes'], result['labels'], names, strict=True):
        colour = box_colour(label)
        corners = box_corners(box) - 0.5  # matplotlib centres pixels on their index
        axis.add_patch(Polygon(corners, fill=False, edgecolor=colour, linewidth=1.5))
        x, y = corners[corners[:, 1].argmin()].clip(0, image.shape[1::-1])
        background = dict(facecolor=colour, edgecolor='none', pad=0.8)
        # Near the upper and right border, the name is drawn towards the inside of the image.
        places: dict[str, Any] = dict(
            verticalalignment='top' if y < 0.1 * image.shape[0] else 'bottom',
            horizontalalignment='right' if x > 0.75 * image.shape[1] else 'left',
        )
        axis.text(x, y, name, fontsize=7, bbox=background, in_layout=False, **places)


def box_corners(box: np.ndarray) -> np.ndarray:
    """Returns the (4, 2) corners of a box.

    Args:
        box: x1, y1, x2, y2; or, for a rotated box, centre, size and angle, or 8 coordinates.
    """
    if len(box) == 8:
        return box.reshape(4, 2)
    if len(box) == 4:
        x1, y1, x2, y2 = box
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    x, y, width, height, angle = box
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    corners = np.array([-along - across, along - across, along + across, across - along])
    return corners + [x, y]


def _draw_segmentation(axes: Sequence[Axes], image: np.ndarray, sem_seg: np.ndarray) -> None:
    mask = voc_palette()[sem_seg % 256]
    axes[0].imshow(mask, interpolation='nearest')
    axes[1].imshow(image)
    # The first class is the background in most data sets; it is transparent.
    alpha = np.where(sem_seg == 0, 0.0, 0.6)
    axes[1].imshow(np.dstack([mask / 255, alpha]), interpolation='nearest')
