"""Reads classes and boxes of data in the layout that ``tools/import_data.py`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError, caused_by
from ...runtime.sources import IMAGE_EXTENSIONS
from ..checks.image_files import is_hidden

TASKS = (
    'classification',
    'detection',
    'instance-segmentation',
    'segmentation',
    'rotated-detection',
)
#: Number of boxes from which sizes are estimated.
MAX_BOXES = 5000
#: Endings of the images if there is none to look at.
_DEFAULT_SUFFIX = '.jpg'


class CustomData:
    """A folder of training data.

    Args:
        root: The folder. ``docs/datasets/import.md`` describes its content.
        task: One of :data:`TASKS`.

    Raises:
        UserError: If the task is unknown, or the folder does not exist.
    """

    def __init__(self, root: str | os.PathLike[str], task: str) -> None:
        if task not in TASKS:
            raise UserError(f'`task` must be one of {", ".join(TASKS)}, got {task!r}.')
        self.root, self.task = Path(root), task
        if not self.root.is_dir():
            raise UserError(
                f"The folder '{root}' (`data_root`) does not exist (absolute path: "
                f'{self.root.resolve()}). Write it with `python tools/import_data.py SOURCE --task '
                f'{task} --out {root}`. To use a trained model without its data, give the config '
                'that the training wrote: work_dirs/NAME/NAME.py.'
            )

    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of their labels.

        Raises:
            UserError: If they cannot be read.
        """
        if self.task == 'classification':
            return tuple(sorted(_folders(self._existing('train'))))
        if self.task in ('detection', 'instance-segmentation'):
            return tuple(str(category['name']) for category in self._coco()['categories'])
        names = self._existing('classes.txt').read_text(encoding='utf-8').splitlines()
        return tuple(name for name in map(str.strip, names) if name)

    def num_images(self, split: str = 'train') -> int:
        """Returns the number of images of a split."""
        if self.task == 'classification':
            folders = [path for path in self._existing(split).iterdir() if path.is_dir()]
            return sum(_count_images(folder) for folder in folders)
        return _count_images(self._existing(split, 'images'))

    def img_suffix(self) -> str:
        """Returns the ending of the image files, with the dot."""
        with os.scandir(self._existing('train', 'images')) as entries:
            names = (entry.name for entry in entries if not is_hidden(entry.name))
            return next((os.path.splitext(name)[1] for name in names), _DEFAULT_SUFFIX)

    def image_sizes(self) -> np.ndarray:
        """Returns width and height of training images, (N, 2) in pixels; of at most 500 images.

        They are spread evenly over the split.
        """
        folder = self._existing('train')
        paths = sorted(p for p in folder.rglob('*') if p.suffix.lower() in IMAGE_EXTENSIONS)
        if self.task == 'segmentation':
            paths = [path for path in paths if path.parent.name == 'images']
        sizes = [_size_of(path) for path in paths[:: max(1, len(paths) // 500)]]
        return np.array([size for size in sizes if size], float).reshape(-1, 2)

    def boxes(self) -> np.ndarray:
        """Returns training boxes and the sizes of their images; at most :data:`MAX_BOXES`.

        Returns:
            (N, 7) float64: centre x and y, width, height (of rotated boxes along their own axes),
            width and height of the image, in pixels, and the number of the class. Crowds and boxes
            without an area are left out.
        """
        found = self._rotated_boxes() if self.task == 'rotated-detection' else self._coco_boxes()
        boxes = np.array(list(found), float).reshape(-1, 7)
        boxes = boxes[(boxes[:, 2:6] > 0).all(1)]
        return boxes[:: max(1, len(boxes) // MAX_BOXES)]

    def _coco_boxes(self) -> Iterator[tuple[float, ...]]:
        content = self._coco()
        sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
        for entry in content['annotations']:
            if not entry.get('iscrowd') and not entry.get('ignore'):
                x, y, w, h = entry['bbox']
                size = sizes[entry['image_id']]
                yield (x + w / 2, y + h / 2, w, h, *size, entry['category_id'])

    def _rotated_boxes(self) -> Iterator[tuple[float, ...]]:
        suffix, numbers = self.img_suffix(), {name: i for i, name in enumerate(self.classes())}
        files = sorted(self._existing('train', 'labelTxt').glob('*.txt'))
        for file in islice(files, 0, None, max(1, len(files) // 500)):
            size = _size_of(self.root / 'train' / 'images' / (file.stem + suffix))
            if size is None:
                continue
            for line in file.read_text(encoding='utf-8').splitlines():
                fields = line.split()
                if len(fields) >= 9 and fields[8] in numbers:
                    corners = np.array(fields[:8], float).reshape(4, 2)
                    edges = np.linalg.norm(corners[1:3] - corners[:2], axis=1)
                    yield (*corners.mean(0), *edges, *size, numbers[fields[8]])

    def _coco(self) -> dict[str, Any]:
        path = self._existing('annotations', 'train.json')
        return _read_json(path, path.stat().st_mtime_ns)

    def _existing(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        if not path.exists():
            raise UserError(
                f'{path} does not exist. For {self.task}, `data_root` must be a folder in the '
                'layout of docs/datasets/import.md, as tools/import_data.py writes it.'
            )
        return path


@lru_cache(maxsize=1)
def _read_json(path: Path, changed: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        missing = {'images', 'annotations', 'categories'} - set(content)
    except (ValueError, TypeError) as error:
        raise caused_by(error, f'{path} cannot be read as COCO JSON') from error
    if missing:
        raise UserError(f'{path} is not in COCO format: it has no {", ".join(sorted(missing))}.')
    return content


def _folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


def _count_images(folder: Path) -> int:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sum(os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS for name in names)


def _size_of(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as training loads it; None if it cannot be opened."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
