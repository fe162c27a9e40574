"""Pascal VOC XML; the XML of roLabelImg, with rotated boxes (``robndbox``), and of old LabelMe.

Coordinates are taken as LabelImg, CVAT and Roboflow write them: pixels from the left upper corner.
Files of the PASCAL VOC challenge itself (``<database>The VOC2007 Database``) count pixels from 1
and include the last one, so 1 is subtracted from their ``xmin`` and ``ymin``.
"""

from __future__ import annotations

from functools import partial
from xml.etree.ElementTree import Element

from ....errors import UserError
from ..geometry import rotated_corners, turn_box
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, parent, stem
from .image_sets import find_listed, read_lists
from .reading import Reading


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


def has_outlines(source: SourceFolder) -> bool:
    """Whether any XML file has a polygon."""
    return any('<polygon' in source.read_text(file) for file in source.with_ending('.xml'))


def _number(element: Element, name: str) -> float:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f'no <{name}>')
    return float(text)


def _read_object(element: Element, from_one: bool) -> Annotation | str:
    """An object, or why it is none."""
    label = (element.findtext('name') or '').strip()
    if not label:
        return 'no <name>'
    if element.findtext('deleted') == '1':
        return f'{label}: deleted'
    annotation = Annotation(label, difficult=(element.findtext('difficult') or '0').strip() == '1')
    try:
        if (rotated := element.find('robndbox')) is not None:
            values = [_number(rotated, name) for name in ('cx', 'cy', 'w', 'h', 'angle')]
            annotation.corners = rotated_corners(*values)
        elif (box := element.find('bndbox')) is not None:
            left, top = _number(box, 'xmin') - from_one, _number(box, 'ymin') - from_one
            size = (_number(box, 'xmax') - left, _number(box, 'ymax') - top)
            annotation.box = (left, top, *size)
        if (polygon := element.find('polygon')) is not None and len(polygon):
            annotation.polygons = [_polygon(polygon)]
        turn_box(
            annotation, float(element.findtext('attributes/attribute[name="rotation"]/value') or 0)
        )
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


def _stated_size(root: Element) -> tuple[int, int] | None:
    try:
        width, height = (float(root.findtext(f'size/{name}') or 0) for name in ('width', 'height'))
    except ValueError:
        return None
    return int(width), int(height)


def read(source: SourceFolder, kind: str) -> Annotations:
    """Reads the XML files of one kind.

    Where there are lists in ``ImageSets``, they count: images that they do not name are left out,
    and those that have no XML file have no objects. Without lists, images without an XML file are
    left out.

    Args:
        source: The folder.
        kind: ``voc`` or ``rolabelimg``.
    """
    reading = Reading(source)
    splits = read_lists(source, 'main')
    kinds = folders_of(source)
    for file in source.with_ending('.xml'):
        if kinds.get(parent(file)) != kind:
            continue
        name = find_listed(splits, file)
        if splits and name is None:
            reading.data.report('left out', 'not in the lists of ImageSets', file)
            continue
        try:
            _read_file(reading, file, splits[name] if name else None)
        except UserError as error:
            reading.data.report('left out', 'invalid XML', file, str(error))
    for name in sorted(splits):
        path = source.find_image(name)
        if path is not None and path not in reading.records:
            reading.records[path] = ImageRecord(path, split=splits[name])
            kind_of_note = 'listed without XML file: taken as an image without objects'
            reading.data.report('note', kind_of_note, path)
    return reading.finish(sort_classes=True)


def _read_file(reading: Reading, file: str, split: str | None) -> None:
    root = reading.source.read_xml(file)
    name = (root.findtext('filename') or '').strip() or stem(file)
    names = [name, stem(file)]
    if stem(name) != stem(file):  # a copied or renamed file; mmdet, too, goes by its name
        names.reverse()
    record = reading.add(file, *names, size=_stated_size(root), split=split)
    if record is None:
        return
    if reading.source.find_image(name, file) not in (None, record.path):
        detail = f'{record.path} instead of {name}'
        reading.data.report('changed', 'XML file that names another image', file, detail)
    official = (root.findtext('source/database') or '').startswith('The VOC')
    for position, element in enumerate(root.iter('object'), 1):
        if annotation := reading.read_object(
            f'{file}, object {position}', position, partial(_read_object, element, official)
        ):
            record.annotations.append(annotation)
    if official and record.annotations:
        reading.data.report('changed', 'coordinates that count from 1 now count from 0', file)
