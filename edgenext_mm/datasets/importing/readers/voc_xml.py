"""Pascal VOC XML, and the XML of roLabelImg, which adds rotated boxes (``robndbox``).

Coordinates are taken as LabelImg, CVAT and Roboflow write them: pixels from the left upper corner.
Files of the PASCAL VOC challenge itself (``<database>The VOC2007 Database``) count pixels from 1
and include the last one, so 1 is subtracted from their ``xmin`` and ``ymin``.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from ....errors import UserError
from ..geometry import rotated_corners
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, parent, split_of, stem


def folders_of(source: SourceFolder) -> dict[str, str]:
    """Folders of XML files, and ``voc`` or ``rolabelimg`` for each."""
    kinds: dict[str, str] = {}
    for file in source.with_ending('.xml'):
        folder = parent(file)
        if kinds.get(folder) == 'rolabelimg':
            continue
        text = source.read_text(file)
        if '<robndbox' in text:
            kinds[folder] = 'rolabelimg'
        elif '<annotation>' in text or '<annotation ' in text:
            kinds.setdefault(folder, 'voc')
    return kinds


def _listed_splits(source: SourceFolder) -> dict[str, str | None]:
    """Split per file stem, from the lists of ``ImageSets``; None in ``trainval`` alone."""
    lists: dict[str, set[str]] = {}
    files = [f for f in source.with_ending('.txt') if 'imagesets' in f.lower().split('/')[:-1]]
    main = [f for f in files if '/main/' in f'/{f.lower()}'] or files
    for file in main:
        name = stem(file).lower()
        if name in ('train', 'val', 'test', 'trainval'):
            words = [
                line.split()[0] for line in source.read_text(file).splitlines() if line.split()
            ]
            lists.setdefault(name, set()).update(word.rpartition('/')[2] for word in words)
    splits: dict[str, str | None] = dict.fromkeys(lists.get('trainval', ()))
    for split in ('test', 'val', 'train'):
        splits.update(dict.fromkeys(lists.get(split, ()), split))
    return splits


def _number(element: Element, name: str) -> float:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f'no <{name}>')
    return float(text)


def _read_object(element: Element, shift: int) -> Annotation | str:
    """An object, or why it is none."""
    label = (element.findtext('name') or '').strip()
    if not label:
        return 'no <name>'
    annotation = Annotation(label, difficult=(element.findtext('difficult') or '0').strip() == '1')
    try:
        if (rotated := element.find('robndbox')) is not None:
            values = [_number(rotated, name) for name in ('cx', 'cy', 'w', 'h', 'angle')]
            annotation.corners = rotated_corners(*values)
        elif (box := element.find('bndbox')) is not None:
            left, top = _number(box, 'xmin') - shift, _number(box, 'ymin') - shift
            size = (_number(box, 'xmax') - left, _number(box, 'ymax') - top)
            annotation.box = (left, top, *size)
        if (polygon := element.find('polygon')) is not None and len(polygon):
            annotation.polygons = [_polygon(polygon)]
    except ValueError as error:
        return f'{label}: {error}'
    if annotation.box is None and annotation.corners is None and not annotation.polygons:
        return f'{label}: neither <bndbox> nor <robndbox>'
    return annotation


def _polygon(element: Element) -> list[float]:
    """Points as ``<x1><y1><x2>...`` (Roboflow) or ``<pt><x><y></pt>`` (LabelMe's old XML)."""
    if (points := element.findall('pt')) or (points := element.findall('point')):
        return [_number(point, name) for point in points for name in ('x', 'y')]
    count = sum(child.tag.startswith('x') for child in element)
    return [_number(element, f'{axis}{i + 1}') for i in range(count) for axis in 'xy']


def read(source: SourceFolder, kind: str) -> Annotations:
    """Reads the XML files of one kind.

    Images without an XML file are left out, as are images that the lists of ``ImageSets``, where
    they exist, do not name.

    Args:
        source: The folder.
        kind: ``voc`` or ``rolabelimg``.
    """
    result = Annotations()
    splits = _listed_splits(source)
    kinds = folders_of(source)
    records: dict[str, ImageRecord] = {}
    for file in source.with_ending('.xml'):
        if kinds.get(parent(file)) != kind:
            continue
        try:
            root = source.read_xml(file)
        except UserError as error:
            result.report('left out', 'invalid XML', file, str(error))
            continue
        if root.tag != 'annotation':
            continue
        name = (root.findtext('filename') or '').strip() or stem(file)
        path = source.find_image(name, file) or source.find_image(stem(file), file)
        if path is None:
            result.report('left out', 'image not found', file, name)
            continue
        if splits and stem(file) not in splits:
            result.report('left out', 'not in the lists of ImageSets', file)
            continue
        if path in records:
            detail = f'{path} is annotated by {records[path].file} already'
            result.report('left out', 'image with two annotation files', file, detail)
            continue
        record = ImageRecord(path, file, splits.get(stem(file)) if splits else split_of(path))
        records[path] = record
        try:
            record.stated_size = (
                int(float(root.findtext('size/width') or 0)),
                int(float(root.findtext('size/height') or 0)),
            )
        except ValueError:
            record.stated_size = None
        official = (root.findtext('source/database') or '').startswith('The VOC')
        for position, element in enumerate(root.iter('object'), 1):
            annotation = _read_object(element, int(official))
            if isinstance(annotation, str):
                detail = f'object {position}: {annotation}'
                result.report('left out', 'malformed object', file, detail)
            else:
                annotation.line = position
                record.annotations.append(annotation)
        if official and record.annotations:
            result.report('changed', 'coordinates that count from 1 now count from 0', file)
    for image in source.images:
        if image not in records:
            result.report('left out', 'image without annotation file', image)
    result.images = list(records.values())
    result.classes = sorted({a.label for r in result.images for a in r.annotations})
    return result
