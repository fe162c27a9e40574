"""Scenes of handwritten digits over photographs, annotated for all dense tasks.

Real handwriting (see :mod:`.handwritten_digits`) on patches of scikit-learn's two photographs, so
that detectors and segmentors can be trained in minutes without a download. The splits share neither
digits nor parts of the photographs. Annotations describe the visible part of a digit.

Layout, with images numbered from 0000::

    ROOT/{train,val}/images/0000.png
    ROOT/{train,val}/masks/0000.png      VOC: 0 is background, class c is c + 1
    ROOT/{train,val}/labelTxt/0000.txt   DOTA: four corners, class, difficulty
    ROOT/annotations/{train,val}.json    COCO: boxes and polygons
    ROOT/settings.json                   the SceneSettings
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..files import new_folder
from .handwritten_digits import load_digits
from .palette import voc_palette

CLASSES = tuple('0123456789')
SPLITS = ('train', 'val')

#: Columns of the photographs that each split uses, as fractions of their width.
COLUMNS = {'train': (0.0, 0.7), 'val': (0.7, 1.0)}

#: Height of a digit as a fraction of the height of the scene.
HEIGHTS = (0.375, 0.6875)

#: Largest rotation in degrees. It is small enough to keep a 6 from becoming a 9.
MAX_ANGLE = 20

#: Fraction of a digit that stays visible under later digits.
MIN_VISIBLE = 0.95

#: Smallest difference in brightness (of 255) between a digit and its background.
MIN_CONTRAST = 90

_INK = 0.5  # fraction of the maximum ink at which a digit ends
_EDGE = 0.2  # fraction of the maximum ink over which its colour fades out
_TRIES = 20  # attempts to place a digit
_ZOOM = 4  # factor for tracing outlines, so that they run along pixel borders


@dataclass(frozen=True)
class SceneSettings:
    """The settings of a set of scenes.

    Args:
        num_train: Number of training scenes, up to 9999. Default: 4000.
        num_val: Number of validation scenes, up to 9999. Default: 200.
        size: Height and width of a scene in pixels, 64 to 192. Default: 128.
        max_digits: Largest number of digits per scene, 1 to 20. Default: 4.
        seed: Random seed. Default: 0.

    Raises:
        UserError: If a value is out of its range.
    """

    num_train: int = 4000
    num_val: int = 200
    size: int = 128
    max_digits: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = dict(num_train=(1, 9999), num_val=(1, 9999), size=(64, 192), max_digits=(1, 20))
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f'`{name}` must be between {low} and {high}, got {getattr(self, name)!r}.'
                )


@dataclass
class _Digit:
    label: int
    angle: float
    mask: np.ndarray  # (size, size) bool: its visible pixels


def write_digit_scenes(
    root: str | os.PathLike[str],
    settings: SceneSettings | None = None,
    progress: bool = False,
) -> bool:
    """Writes the scenes. After an error or an interruption, the folder does not exist.

    Args:
        root: The folder to create. If it exists, it must contain scenes of the same settings.
        settings: The settings. Default: None, the defaults of :class:`SceneSettings`.
        progress: Whether to show a progress bar. Default: False.

    Returns:
        True if the scenes were written, False if they existed.

    Raises:
        UserError: If the folder contains something else, or scikit-learn is not installed.
    """
    root = Path(root)
    settings = settings or SceneSettings()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        _check_complete(root, settings)
        return False
    photographs, digits = _load_photographs(), list(load_digits())
    with new_folder(root) as folder:
        (folder / 'annotations').mkdir()
        for split in SPLITS:
            scenes = _scenes(split, settings, photographs, digits)
            count = getattr(settings, f'num_{split}')
            coco = _write_split(folder / split, tqdm(scenes, split, count, disable=not progress))
            (folder / 'annotations' / f'{split}.json').write_text(json.dumps(coco))
        (folder / 'settings.json').write_text(json.dumps(asdict(settings)))
    return True


def _check_complete(root: Path, settings: SceneSettings) -> None:
    path = root / 'settings.json'
    if not path.is_file():
        raise UserError(
            f'{root} exists and contains no digit scenes. Remove it, or give another folder.'
        )
    found = json.loads(path.read_text())
    if found != asdict(settings):
        raise UserError(
            f'{root} contains scenes of other settings: {found}, not {asdict(settings)}. Remove '
            'it, or give another folder.'
        )
    for split in SPLITS:
        expected = getattr(settings, f'num_{split}')
        for kind in ('images', 'masks', 'labelTxt'):
            count = len(list((root / split / kind).glob('*')))
            if count != expected:
                raise UserError(
                    f'{root / split / kind} contains {count} files instead of {expected}. Remove '
                    f'{root} and write it again.'
                )


def _load_photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def _scenes(
    split: str,
    settings: SceneSettings,
    photographs: Sequence[np.ndarray],
    digits: Sequence[tuple[str, int, np.ndarray]],
) -> Iterator[tuple[np.ndarray, list[_Digit]]]:
    """Yields images, (size, size, 3) uint8 RGB, and their digits. Each scene has its own seed."""
    own = [(label, image) for where, label, image in digits if where == split]
    low, high = COLUMNS[split]
    regions = [p[:, int(low * p.shape[1]) : int(high * p.shape[1])] for p in photographs]
    for index in range(getattr(settings, f'num_{split}')):
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
        scene = _patch(rng, regions, settings.size)
        placed: list[_Digit] = []
        wanted = rng.integers(1, settings.max_digits, endpoint=True)
        for _ in range(wanted):
            _place(rng, scene, placed, *own[rng.integers(len(own))])
        yield np.rint(scene).clip(0, 255).astype(np.uint8), placed


def _patch(rng: np.random.Generator, regions: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Cuts a square from a photograph at a random position, scale and brightness, as float32."""
    region = regions[int(rng.integers(len(regions)))]
    side = rng.integers(size // 2, min(region.shape[:2]), endpoint=True)
    top, left = (rng.integers(n - side, endpoint=True) for n in region.shape[:2])
    patch = cv2.resize(region[top : top + side, left : left + side], (size, size))
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    return np.ascontiguousarray(patch, np.float32) * rng.uniform(0.6, 1.1)


def _place(
    rng: np.random.Generator,
    scene: np.ndarray,
    placed: list[_Digit],
    label: int,
    image: np.ndarray,
) -> None:
    """Draws a digit at a position where the other digits stay visible, if it finds one."""
    size = scene.shape[0]
    for _ in range(_TRIES):
        height, angle = size * rng.uniform(*HEIGHTS), rng.uniform(-MAX_ANGLE, MAX_ANGLE)
        x, y = rng.uniform(height / 2, size - height / 2, 2)
        ink = _warp(image, height, angle, x, y, size)
        mask = ink > _INK
        left = [digit.mask & ~mask for digit in placed]
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        hides_another = any(
            rest.sum() < MIN_VISIBLE * digit.mask.sum()
            for rest, digit in zip(left, placed, strict=True)
        )
        if not border.any() and not hides_another:
            for digit, rest in zip(placed, left, strict=True):
                digit.mask = rest
            placed.append(_Digit(label, angle, mask))
            alpha = ((ink - _INK) / _EDGE + 1).clip(0, 1)[..., None]
            scene += alpha * (_colour(rng, scene[mask].mean()) - scene)
            return


def _warp(
    image: np.ndarray, height: float, angle: float, x: float, y: float, size: int
) -> np.ndarray:
    """Returns the ink of a digit, 0 to 1, scaled and rotated (degrees, clockwise) at (x, y)."""
    rows, columns = (np.flatnonzero((image > 255 * _INK).any(axis)) for axis in (1, 0))
    centre = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    scale = height / (rows[-1] - rows[0] + 1)
    matrix = cv2.getRotationMatrix2D(centre, -angle, scale)
    matrix[:, 2] += np.array([x, y]) - centre
    return cv2.warpAffine(
        image.astype(np.float32) / 255, matrix, (size, size), flags=cv2.INTER_CUBIC
    )


def _colour(rng: np.random.Generator, background: float) -> np.ndarray:
    """Draws a colour that is clearly darker or brighter than the mean of the background."""
    darker, brighter = background - MIN_CONTRAST, background + MIN_CONTRAST
    choices = [(0.0, darker)] * (darker > 0) + [(brighter, 255.0)] * (brighter < 255)
    low, high = choices[rng.integers(len(choices))]
    tint = rng.uniform(-30, 30, 3)
    return (rng.uniform(low, high) + tint - tint.mean()).clip(0, 255)


def _write_split(folder: Path, scenes: Iterator[tuple[np.ndarray, list[_Digit]]]) -> dict[str, Any]:
    """Writes images, masks and labelTxt, and returns the annotations in COCO's format."""
    for kind in ('images', 'masks', 'labelTxt'):
        (folder / kind).mkdir(parents=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for index, (scene, digits) in enumerate(scenes):
        name, size = f'{index:04d}', scene.shape[0]
        Image.fromarray(scene).save(folder / 'images' / f'{name}.png')
        _draw_mask(digits, size).save(folder / 'masks' / f'{name}.png')
        lines = [
            ' '.join(f'{v:.2f}' for v in _rotated_box(digit).ravel()) + f' {digit.label} 0\n'
            for digit in digits
        ]
        (folder / 'labelTxt' / f'{name}.txt').write_text(''.join(lines))
        images.append(dict(id=index, file_name=f'{name}.png', height=size, width=size))
        for digit in digits:
            annotations.append(dict(id=len(annotations) + 1, image_id=index, **_coco(digit)))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)]
    return dict(images=images, annotations=annotations, categories=categories)


def _draw_mask(digits: Sequence[_Digit], size: int) -> Image.Image:
    indices: np.ndarray = np.zeros((size, size), np.uint8)
    for digit in digits:
        indices[digit.mask] = digit.label + 1
    mask = Image.fromarray(indices, mode='P')
    mask.putpalette(voc_palette().tobytes())
    return mask


def _coco(digit: _Digit) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(digit.mask.any(axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
    return dict(
        category_id=digit.label + 1,
        bbox=box,
        area=int(digit.mask.sum()),
        segmentation=_polygons(digit.mask),
        iscrowd=0,
    )


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Returns the outlines of a mask. Holes are filled, since COCO's polygons have none."""
    zoomed: np.ndarray = mask.astype(np.uint8).repeat(_ZOOM, 0).repeat(_ZOOM, 1)
    outlines, _ = cv2.findContours(zoomed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # A contour passes through the centres of the outer pixels of the zoomed mask.
    return [((outline + 0.5) / _ZOOM).ravel().round(2).tolist() for outline in outlines]


def _rotated_box(digit: _Digit) -> np.ndarray:
    """Returns the (4, 2) corners of the tightest box with the angle of the digit, clockwise."""
    angle = math.radians(digit.angle)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    rows, columns = np.nonzero(digit.mask)
    upright = (np.stack([columns, rows], axis=1) + 0.5) @ turn
    (left, top), (right, bottom) = upright.min(0) - 0.5, upright.max(0) + 0.5
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return corners @ turn.T
