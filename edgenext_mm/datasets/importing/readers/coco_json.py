"""COCO JSON: one file per split, also as Roboflow writes it (``_annotations.coco.json``)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..geometry import checked_rle, turn_box
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of, stem
from .reading import Reading

#: Beginnings of the names of COCO's other files, whose images are those of ``instances_*.json``.
_OTHER_TASKS = ('captions', 'image_info', 'labels', 'panoptic', 'person_keypoints', 'stuff')


def _category_names(categories: list[dict], used: set[Any]) -> dict[Any, str]:
    """Name per category id.

    Roboflow lists the project itself as category 0, a parent of the others without objects; it is
    not a class.
    """
    parents = {c.get('supercategory') for c in categories}
    return {
        c['id']: str(c['name'])
        for c in categories
        if c['id'] in used or not (c['name'] in parents and c.get('supercategory') == 'none')
    }


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads COCO files; an image without annotations has no objects.

    Args:
        source: The folder.
        files: The COCO files in it.
    """
    reading = Reading(source)
    names: dict[str, None] = {}
    has_instances = any(stem(file).lower().startswith('instances') for file in files)
    for file in files:
        if has_instances and stem(file).lower().startswith(_OTHER_TASKS):
            reading.data.report('note', 'file of another task beside COCO instances', file)
            continue
        content = source.read_json(file)
        entries = content.get('annotations') or []
        if entries and not any(e.get('bbox') or e.get('segmentation') for e in entries):
            reading.data.report('left out', 'file without boxes and outlines', file)
            continue
        used = {entry.get('category_id') for entry in entries}
        categories = _category_names(content.get('categories') or [], used)
        names.update(dict.fromkeys(name for _, name in sorted(categories.items(), key=_order)))
        images = {i['id']: _add(reading, file, i) for i in content.get('images') or []}
        for position, entry in enumerate(entries, 1):
            where = f'{file}, annotation {entry.get("id")}'
            category = entry.get('category_id')
            if entry.get('image_id') not in images:
                detail = f'image_id {entry.get("image_id")!r}'
                reading.data.report('left out', 'annotation of an unknown image', where, detail)
            elif category not in categories:
                detail = f'category_id {category!r}'
                reading.data.report('left out', 'annotation of an unknown category', where, detail)
            elif (record := images[entry['image_id']]) is None:
                reading.data.report('left out', 'annotation of an image left out', where)
            elif annotation := reading.read_object(
                where, position, partial(_read_entry, entry, categories[category])
            ):
                record.annotations.append(annotation)
    reading.data.classes = list(names)
    return reading.finish()


def _add(reading: Reading, file: str, image: dict[str, Any]) -> ImageRecord | None:
    """The record of an image; several ids of one image in a file share it."""
    path = reading.source.find_image(str(image['file_name']), file)
    known = reading.records.get(path or '')
    if known is not None and known.file == file:
        detail = f'{path}; objects of all its ids are kept'
        reading.data.report('changed', 'image with several ids', file, detail)
        return known
    size = (int(image.get('width') or 0), int(image.get('height') or 0))
    return reading.add(file, str(image['file_name']), size=size, split=split_of(file))


def _read_entry(entry: dict[str, Any], label: str) -> Annotation:
    annotation = Annotation(label, crowd=bool(entry.get('iscrowd')), area=entry.get('area'))
    annotation.difficult = bool(entry.get('difficult'))
    outline = entry.get('segmentation')
    if isinstance(outline, dict) and 'counts' in outline:
        annotation.rle = checked_rle(outline)
    elif outline and isinstance(outline, list):
        polygons = outline if isinstance(outline[0], list) else [outline]
        annotation.polygons = [[float(v) for v in polygon] for polygon in polygons]
    if entry.get('bbox'):
        left, top, width, height = (float(v) for v in entry['bbox'])
        annotation.box = (left, top, width, height)
    if annotation.rle is None:
        turn_box(annotation, float((entry.get('attributes') or {}).get('rotation') or 0))
    return annotation


def _order(item: tuple[Any, str]) -> tuple[bool, float, str]:
    """Sorts category ids by number, then those that are text."""
    key = item[0]
    is_number = isinstance(key, (int, float))
    return not is_number, key if is_number else 0, str(key)
