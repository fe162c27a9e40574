"""Masks of VOC's classes from COCO's instance annotations, to train on COCO and VOC together.

Layout; COCO's images are not copied::

    OUT/SegmentationClass/000000000009.png       0 to 20, and 255 for ignored pixels
    OUT/ImageSets/Segmentation/train2017.txt     names without extension, as mmseg reads them
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from .checks.coco import read_coco
from .checks.source import check_files
from .palette import IGNORED, voc_palette

#: VOC's classes. The value in a mask is the index in this list.
VOC_CLASSES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair',
    'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa',
    'train', 'tvmonitor',
)  # fmt: skip

#: VOC's names of the classes that COCO names differently.
COCO_TO_VOC = {
    'airplane': 'aeroplane',
    'couch': 'sofa',
    'dining table': 'diningtable',
    'motorcycle': 'motorbike',
    'potted plant': 'pottedplant',
    'tv': 'tvmonitor',
}


@dataclass(frozen=True)
class Conversion:
    """The result of :func:`convert_coco_to_voc`.

    Args:
        listed: Number of images in the list.
        written: Number of masks written; the other listed masks existed.
        too_small: Number of images left out because they have too few labelled pixels.
        list_file: The path of the list.
    """

    listed: int
    written: int
    too_small: int
    list_file: Path


def draw_mask(
    annotations: Sequence[Mapping[str, Any]], height: int, width: int, labels: Mapping[int, int]
) -> np.ndarray:
    """Draws the mask of an image.

    If instances overlap, the smaller one is in front, so that a bottle stays visible on its table.
    Crowd regions (``iscrowd``) also contain background, so they are ignored (255) unless an
    instance covers them.

    Args:
        annotations: COCO annotations of the image, with polygons or run lengths.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        labels: VOC's class indices by COCO category. Annotations of other categories are skipped.

    Returns:
        (height, width) uint8 array.

    Raises:
        UserError: If an annotation has no outline of that size, or pycocotools is not installed.
    """
    layers = []
    for index, annotation in enumerate(annotations):
        label = labels.get(annotation['category_id'])
        if label is not None:
            region = _draw_region(annotation, height, width)
            crowd = bool(annotation.get('iscrowd', 0))
            # From back to front; among equals, the earlier annotation is in front.
            depth = (not crowd, -int(region.sum()), -index)
            layers.append((depth, region, IGNORED if crowd else label))
    mask: np.ndarray = np.zeros((height, width), np.uint8)
    for _, region, label in sorted(layers, key=lambda layer: layer[0]):
        mask[region] = label
    return mask


def _draw_region(annotation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """Returns the (height, width) bool mask of an annotation."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise UserError(
            "Reading COCO's outlines needs pycocotools, which is not installed. "
            'Install it with `pip install pycocotools`.'
        ) from error
    outline = annotation.get('segmentation')
    try:
        if isinstance(outline, Mapping):
            if list(outline['size']) != [height, width]:
                raise ValueError(f'its size is {outline["size"]}, not {[height, width]}')
            packed = isinstance(outline['counts'], str | bytes)
            runs = outline if packed else coco_mask.frPyObjects(outline, height, width)
        else:
            if not outline or any(len(p) < 6 or len(p) % 2 for p in outline):
                raise ValueError('polygons have at least three corners')
            runs = coco_mask.merge(coco_mask.frPyObjects(outline, height, width))
        return coco_mask.decode(runs).astype(bool)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f'The segmentation of annotation {annotation.get("id")} (image '
            f'{annotation.get("image_id")}) is neither polygons nor run lengths: {error}.'
        ) from error


def convert_coco_to_voc(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    min_pixels: int = 1000,
    progress: bool = False,
) -> Conversion:
    """Writes the masks of all images with VOC's classes, and a list of these images.

    Existing masks are kept, so that an interrupted conversion can be continued.

    Args:
        annotations: COCO's ``instances_*.json``, with the category names of COCO or VOC.
        images: Folder of the images.
        out: Folder to write to. The list is named after the folder of the images.
        min_pixels: Images with fewer pixels of VOC's 20 object classes are left out, since they
            show little but background. Default: 1000, the usual value.
        progress: Whether to show a progress bar. Default: False.

    Raises:
        UserError: If files are missing or invalid.
    """
    annotations, images, out = Path(annotations), Path(images).resolve(), Path(out)
    if min_pixels < 1:
        raise UserError(f'`min_pixels` must be at least 1, got {min_pixels!r}.')
    if not annotations.is_file():
        raise UserError(
            f'There is no annotation file {annotations}. COCO has '
            'annotations/instances_train2017.json in annotations_trainval2017.zip on '
            'https://cocodataset.org.'
        )
    content = read_coco(annotations)
    labels = _labels(content['categories'], annotations)
    per_image = _group(content, labels, annotations)
    names = [image['file_name'] for image, _ in per_image]
    _check_names(names, images)
    check_files([images / name for name in names], 'images', annotations)

    listed: list[str] = []
    written = 0
    for image, own in tqdm(per_image, 'masks', unit='image', disable=not progress):
        name = Path(image['file_name']).with_suffix('')
        path = out / 'SegmentationClass' / f'{name}.png'
        height, width = image['height'], image['width']
        mask = _read_mask(path, height, width)
        missing = mask is None
        if mask is None:
            mask = draw_mask(own, height, width, labels)
        if np.count_nonzero((mask != 0) & (mask != IGNORED)) < min_pixels:
            continue
        if missing:
            _write_mask(mask, path)
            written += 1
        listed.append(name.as_posix())
    list_file = out / 'ImageSets' / 'Segmentation' / f'{images.name}.txt'
    with replacing(list_file) as temporary:
        temporary.write_text(''.join(f'{name}\n' for name in listed))
    return Conversion(len(listed), written, len(per_image) - len(listed), list_file)


def _labels(categories: Sequence[Mapping[str, Any]], source: Path) -> dict[int, int]:
    """Returns VOC's index of each category that is a class of VOC."""
    names = {c['id']: COCO_TO_VOC.get(c['name'], c['name']) for c in categories}
    labels = {i: VOC_CLASSES.index(name) for i, name in names.items() if name in VOC_CLASSES[1:]}
    if not labels:
        raise UserError(
            f'None of the categories in {source} is a class of VOC: {sorted(names.values())}. '
            f"Known are VOC's names ({', '.join(VOC_CLASSES[1:])}) and COCO's for the same."
        )
    return labels


def _group(
    content: Mapping[str, Any], labels: Mapping[int, int], source: Path
) -> list[tuple[dict, list[dict]]]:
    """Returns the images with VOC's classes, each with its annotations."""
    images = {image['id']: image for image in content['images']}
    categories = {category['id'] for category in content['categories']}
    per_image: dict[int, list[dict]] = defaultdict(list)
    for annotation in content['annotations']:
        image, category = annotation['image_id'], annotation['category_id']
        if category not in categories or image not in images:
            what = f'image {image}' if image not in images else f'category {category}'
            raise UserError(
                f'Annotation {annotation.get("id")} in {source} is of {what}, which the file does '
                'not list.'
            )
        if category in labels:
            per_image[image].append(annotation)
    return [(image, per_image[i]) for i, image in images.items() if i in per_image]


def _check_names(names: Sequence[str], folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f'The folder of images {folder} does not exist.')
    outside = [name for name in names if Path(name).is_absolute() or '..' in Path(name).parts]
    if outside:
        raise UserError(f'`file_name` must be a path inside the folder, got {outside[0]!r}.')
    suffixes = sorted({Path(name).suffix for name in names})
    if len(suffixes) > 1:
        raise UserError(
            f'The images have the extensions {", ".join(suffixes)}; mmseg needs a single one.'
        )


def _read_mask(path: Path, height: int, width: int) -> np.ndarray | None:
    """Reads a mask; returns None if there is no valid file of that size."""
    try:
        with Image.open(path) as image:
            return np.asarray(image) if (image.mode, *image.size) == ('P', width, height) else None
    except (OSError, SyntaxError):  # Pillow raises the latter for some broken PNGs
        return None


def _write_mask(mask: np.ndarray, path: Path) -> None:
    image = Image.fromarray(mask, mode='P')
    image.putpalette(voc_palette().tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format='PNG')
