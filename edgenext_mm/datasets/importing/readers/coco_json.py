"""COCO JSON: one file per split, also as Roboflow writes it (``_annotations.coco.json``)."""

from __future__ import annotations

from typing import Any

from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of


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


def _segmentation(entry: dict, annotation: Annotation) -> None:
    outline = entry.get('segmentation')
    if isinstance(outline, dict) and 'counts' in outline:
        annotation.rle = dict(size=[int(n) for n in outline['size']], counts=outline['counts'])
    elif outline and isinstance(outline, list):
        polygons = outline if isinstance(outline[0], list) else [outline]
        annotation.polygons = [[float(v) for v in polygon] for polygon in polygons]


def read(source: SourceFolder, files: list[str]) -> Annotations:
    """Reads COCO files; an image without annotations has no objects.

    Args:
        source: The folder.
        files: The COCO files in it.
    """
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    names: dict[str, None] = {}
    for file in files:
        content = source.read_json(file)
        annotations = content.get('annotations') or []
        used = {entry.get('category_id') for entry in annotations}
        categories = _category_names(content.get('categories') or [], used)
        names.update(dict.fromkeys(name for _, name in sorted(categories.items(), key=_order)))
        by_id: dict[Any, ImageRecord | None] = {}
        for image in content.get('images') or []:
            path = source.find_image(str(image['file_name']), file)
            by_id[image['id']] = None
            if path is None:
                result.report('left out', 'image not found', file, str(image['file_name']))
                continue
            if path in records and records[path].file == file:
                detail = f'{path} under two ids; objects of both are kept'
                result.report('changed', 'image listed twice', file, detail)
            elif path in records:
                detail = f'{path} is in {records[path].file} already'
                result.report('left out', 'image in two annotation files', file, detail)
                continue
            size = (int(image.get('width') or 0), int(image.get('height') or 0))
            split = split_of(file) or split_of(path)
            record = ImageRecord(path, file, split, stated_size=size)
            by_id[image['id']] = records.setdefault(path, record)
        for position, entry in enumerate(annotations, 1):
            where = f'{file}:{position}'
            name = f'annotation {entry.get("id")}'
            if entry.get('image_id') not in by_id:
                result.report('left out', 'annotation of an unknown image', where, name)
            elif entry.get('category_id') not in categories:
                detail = f'{name}, category {entry.get("category_id")!r}'
                result.report('left out', 'annotation of an unknown category', where, detail)
            elif (found := by_id[entry['image_id']]) is not None:
                annotation = Annotation(categories[entry['category_id']], line=position)
                annotation.crowd = bool(entry.get('iscrowd'))
                annotation.difficult = bool(entry.get('difficult'))
                annotation.area = entry.get('area')
                try:
                    _segmentation(entry, annotation)
                    if entry.get('bbox'):
                        left, top, width, height = (float(v) for v in entry['bbox'])
                        annotation.box = (left, top, width, height)
                except (TypeError, ValueError, KeyError) as error:
                    detail = f'{name}: {error}'
                    result.report('left out', 'malformed annotation', where, detail)
                    continue
                found.annotations.append(annotation)
            else:
                result.report('left out', 'annotation of an image left out', where, name)
    for image in source.images:
        if image not in records:
            result.report('left out', 'image without annotation', image)
    result.images = list(records.values())
    result.classes = list(names)
    return result


def _order(item: tuple[Any, str]) -> tuple[bool, float, str]:
    """Sorts category ids by number, then those that are text."""
    key = item[0]
    is_number = isinstance(key, (int, float))
    return not is_number, key if is_number else 0, str(key)
