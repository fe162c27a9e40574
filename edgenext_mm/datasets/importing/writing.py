"""Writes imported images and annotations in the layout that the configs read."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..palette import voc_palette
from .geometry import decode_rle, draw_polygons, encode_rle, to_area
from .masks import MaskReader, draw_outlines
from .measuring import embedded_image, load_mask
from .records import IGNORE, Annotation, Annotations, ImageRecord
from .source import SourceFolder, stem


class ImageWriter:
    """Copies or links images to new names.

    Args:
        source: The folder they come from.
        link: Whether to link instead of to copy.
    """

    def __init__(self, source: SourceFolder, link: bool) -> None:
        self.source = source
        self.link = link

    def __call__(self, record: ImageRecord, target: Path) -> None:
        """Writes one image; one whose format does not fit the ending ``.png`` is converted."""
        target.parent.mkdir(parents=True, exist_ok=True)
        path = self.source.root / record.path
        if record.embedded or _needs_conversion(record.path, target):
            content = embedded_image(self.source, record) if record.embedded else path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                ImageOps.exif_transpose(image).save(target)
        elif self.link:
            target.symlink_to(path.resolve())
        else:
            shutil.copyfile(path, target)


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    return {'.jpeg': '.jpg', '.tiff': '.tif'}.get(ending, ending)


def _needs_conversion(path: str, target: Path) -> bool:
    return target.suffix == '.png' and _ending(path) != '.png'


def choose_names(
    data: Annotations, one_ending: bool, folder_of: Any = lambda record: record.split
) -> dict[int, str]:
    """File names without folders, by ``id`` of the record, that differ within each folder.

    Images of the same name get the names of their folders before them.

    Args:
        data: The images; changes are reported.
        one_ending: Whether all images need the same ending, as mmseg and mmrotate do. If theirs
            differ, all become PNG.
        folder_of: Folder that an image is written to. Default: its split.
    """
    taken: dict[Any, set[str]] = defaultdict(set)
    stems = Counter((folder_of(record), stem(record.path).lower()) for record in data.images)
    endings = {'.png' if r.embedded else _ending(r.path) for r in data.images}
    names = {}
    for record in data.images:
        folder, original = folder_of(record), record.path.rpartition('/')[2]
        base, ending = os.path.splitext(original)
        if record.embedded:
            base, ending = stem(record.file), '.png'
        elif one_ending:
            ending = '.png' if len(endings) > 1 else _ending(original)
        if stems[folder, stem(record.path).lower()] > 1:
            base = re.sub(r'\W+', '_', os.path.splitext(record.path)[0].replace('/', '_'))
        unique, number = base, 1
        while unique.lower() in taken[folder]:
            number += 1
            unique = f'{base}_{number}'
        taken[folder].add(unique.lower())
        names[id(record)] = unique + ending
        if unique != os.path.splitext(original)[0] and not record.embedded:
            detail = f'written as {names[id(record)]}'
            data.report('changed', 'several images of one name', record.path, detail)
        if one_ending and len(endings) > 1 and _ending(original) != '.png':
            data.report('changed', 'images of several formats: converted to PNG', record.path)
    return names


def write_class_folders(
    data: Annotations, out: Path, write_image: ImageWriter, images: Iterable[ImageRecord]
) -> None:
    """Writes ``SPLIT/CLASS/IMAGE``."""
    folders = {name: re.sub(r'[/\\]', '_', name).strip() or '_' for name in data.classes}
    for name, folder in folders.items():
        if name != folder:
            data.report('changed', 'class name that cannot be a folder', '.', f'{name}: {folder}')
    data.classes = sorted(folders.values())
    for record in data.images:
        record.labels = [folders[record.labels[0]]]
    names = choose_names(data, False, lambda record: (record.split, record.labels[0]))
    for record in images:
        write_image(record, out / str(record.split) / record.labels[0] / names[id(record)])
    for name in data.classes:  # the folders of training name the classes of all splits
        (out / 'train' / name).mkdir(parents=True, exist_ok=True)


def coco_annotation(annotation: Annotation, width: int, height: int) -> dict[str, Any]:
    """COCO's entry for an object, without ids."""
    assert annotation.box is not None
    entry: dict[str, Any] = dict(
        bbox=list(annotation.box), area=to_area(annotation), iscrowd=int(annotation.crowd)
    )
    if annotation.rle is not None and annotation.polygons:
        union = decode_rle(annotation.rle)
        entry['segmentation'] = encode_rle(
            union | draw_polygons(annotation.polygons, width, height)
        )
    elif annotation.rle is not None:
        entry['segmentation'] = annotation.rle
    elif annotation.polygons:
        entry['segmentation'] = annotation.polygons
    if annotation.difficult:
        entry['difficult'] = 1
    return entry


def write_coco(
    data: Annotations, out: Path, write_image: ImageWriter, images: Iterable[ImageRecord]
) -> None:
    """Writes ``annotations/SPLIT.json`` and ``SPLIT/images/``.

    Category ids begin with 1, in the order of the classes.
    """
    names = choose_names(data, one_ending=False)
    ids = {name: index for index, name in enumerate(data.classes, 1)}
    categories = [dict(id=index, name=name) for name, index in ids.items()]
    contents: dict[str, dict[str, list]] = {
        split: dict(images=[], annotations=[], categories=categories)
        for split in sorted({str(record.split) for record in data.images})
    }
    for record in images:
        split = str(record.split)
        content = contents[split]
        name = names[id(record)]
        write_image(record, out / split / 'images' / name)
        image_id = len(content['images']) + 1
        size = dict(width=record.width, height=record.height)
        content['images'].append(dict(id=image_id, file_name=name, **size))
        for annotation in record.annotations:
            entry = dict(
                id=len(content['annotations']) + 1,
                image_id=image_id,
                category_id=ids[annotation.label],
                **coco_annotation(annotation, record.width, record.height),
            )
            content['annotations'].append(entry)
    (out / 'annotations').mkdir()
    for split, content in contents.items():
        (out / 'annotations' / f'{split}.json').write_text(json.dumps(content))


@functools.cache
def _palette() -> list[int]:
    return voc_palette().ravel().tolist()


def write_masks(
    data: Annotations,
    out: Path,
    write_image: ImageWriter,
    images: Iterable[ImageRecord],
    reader: MaskReader | None,
) -> Counter[str]:
    """Writes ``SPLIT/images/``, ``SPLIT/masks/`` (class indices) and ``classes.txt``.

    Masks have VOC's colours as their palette.

    Args:
        data: The images.
        out: Folder to write to.
        write_image: Writes an image.
        images: ``data.images``, perhaps with a progress bar.
        reader: Converts the source's masks; None if masks are drawn from outlines.

    Returns:
        Number of pixels per class, and of ignored ones under '(ignored)'.
    """
    names = choose_names(data, one_ending=True)
    pixels: Counter[str] = Counter()
    (out / 'classes.txt').write_text(''.join(f'{name}\n' for name in data.classes))
    labels = [*data.classes, *['(ignored)'] * (256 - len(data.classes))]
    for record in images:
        folder, name = out / str(record.split), names[id(record)]
        write_image(record, folder / 'images' / name)
        if reader is None:
            mask = draw_outlines(record, data.classes)
        else:
            mask = reader(load_mask(write_image.source, record, reader.as_colours))
        for value, count in zip(*np.unique(mask, return_counts=True), strict=True):
            pixels[labels[int(value)]] += int(count)
        image = Image.fromarray(mask, mode='P')
        image.putpalette(_palette())
        (folder / 'masks').mkdir(exist_ok=True)
        image.save(folder / 'masks' / f'{os.path.splitext(name)[0]}.png')
    return pixels


def write_dota(
    data: Annotations, out: Path, write_image: ImageWriter, images: Iterable[ImageRecord]
) -> None:
    """Writes ``SPLIT/images/``, ``SPLIT/labelTxt/`` and ``classes.txt``."""
    names = choose_names(data, one_ending=True)
    written = {name: re.sub(r'\s+', '_', name.strip()) for name in data.classes}
    for name, new in written.items():
        if name != new:
            data.report('changed', 'class name with spaces', '.', f'{name}: {new}')
    data.classes = list(written.values())
    (out / 'classes.txt').write_text(''.join(f'{name}\n' for name in data.classes))
    for record in images:
        folder, name = out / str(record.split), names[id(record)]
        write_image(record, folder / 'images' / name)
        lines = []
        for annotation in record.annotations:
            annotation.label = written[annotation.label]
            corners = ' '.join(_number(value) for value in annotation.corners or ())
            lines.append(f'{corners} {annotation.label} {int(annotation.difficult)}\n')
        (folder / 'labelTxt').mkdir(exist_ok=True)
        (folder / 'labelTxt' / f'{os.path.splitext(name)[0]}.txt').write_text(''.join(lines))


def _number(value: float) -> str:
    """Text of a coordinate; four decimals are a ten-thousandth of a pixel."""
    return f'{value:.4f}'.rstrip('0').rstrip('.')


def count_objects(images: Sequence[ImageRecord], task: str) -> Counter[str]:
    """Number of objects per class; of images per class for classification and masks."""
    if task == 'classification' or any(record.mask for record in images):
        return Counter(label for record in images for label in record.labels)
    labels = (a.label for record in images for a in record.annotations)
    return Counter(label for label in labels if label != IGNORE)
