"""YOLO: a text file of normalised boxes, polygons or oriented boxes beside each image.

``class cx cy w h`` is a box, ``class x1 y1 ... x4 y4`` an oriented box or a polygon of four
corners, and a longer line a polygon. Class names and splits come from ``data.yaml`` (as Ultralytics
and Roboflow write it), ``obj.data`` and ``obj.names`` (as Darknet and CVAT do), or ``classes.txt``
(as LabelImg and Label Studio do).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import yaml

from ....errors import UserError
from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, is_image, parent, split_of, stem
from .reading import Reading

_NAME_FILES = ('classes.txt', 'obj.names', '_darknet.labels', 'labels.txt', 'data.names')


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return None


def is_label_line(line: str) -> bool:
    """Whether a line consists of a class index and at least four numbers."""
    numbers = _numbers(line)
    return numbers is not None and len(numbers) >= 5 and numbers[0] == int(numbers[0])


def is_yolo_yaml(source: SourceFolder, file: str) -> bool:
    """Whether a YAML file describes a YOLO data set."""
    try:
        content = yaml.safe_load(source.read_text(file))
    except yaml.YAMLError:
        return False
    return isinstance(content, dict) and 'names' in content


def _settings(source: SourceFolder) -> tuple[str | None, dict[str, Any]]:
    """The file that describes the data set, and its content."""
    files = [f for f in source.with_ending('.yaml', '.yml') if is_yolo_yaml(source, f)]
    if len(files) > 1:
        raise UserError(
            f'{source.root} has several YAML files with class names: {", ".join(files)}. Keep the '
            'one that belongs to these labels.'
        )
    if files:
        return files[0], yaml.safe_load(source.read_text(files[0]))
    for file in source.with_ending('obj.data'):
        lines = [line.partition('=') for line in source.read_text(file).splitlines()]
        settings = {key.strip(): value.strip() for key, _, value in lines}
        settings.pop('names', None)  # a file, which _class_names finds
        return file, settings
    return None, {}


def _class_names(source: SourceFolder, settings: dict[str, Any]) -> dict[int, str]:
    names = settings.get('names')
    if isinstance(names, dict):
        return {int(index): str(name) for index, name in names.items()}
    if isinstance(names, list):
        return dict(enumerate(str(name) for name in names))
    lists: dict[str, list[str]] = {}
    for file in source.files:
        if file.rpartition('/')[2].lower() in _NAME_FILES:
            lines = [line.strip() for line in source.read_text(file).splitlines()]
            lists[file] = [line for line in lines if line]
    found = list(lists.values())
    if any(names != found[0] for names in found):
        raise UserError(
            f'{source.root} has files with different class names: {", ".join(lists)}. Keep the '
            'one that belongs to these labels, or import their folders one by one.'
        )
    return dict(enumerate(found[0])) if found else {}


def _listed_splits(
    source: SourceFolder, file: str | None, settings: dict[str, Any]
) -> dict[str, str]:
    """Split per image, from the entries ``train``, ``val`` and ``test`` of ``data.yaml``."""
    splits: dict[str, str] = {}
    root = str(settings.get('path') or '')
    for key in ('test', 'val', 'train'):  # an image of both train and val is trained on
        entries = settings.get('valid') if key == 'val' and 'val' not in settings else None
        entries = entries or settings.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            folder = _find_folder_or_list(source, str(entry), root, file or '')
            if folder is None:
                continue
            if folder in source:
                lines = source.read_text(folder).split('\n')
                found = [source.find_image(line.strip(), folder) for line in lines if line.strip()]
                splits.update({image: key for image in found if image})
            else:
                prefix = f'{folder}/' if folder else ''
                splits.update({i: key for i in source.images if i.startswith(prefix)})
    return splits


def _find_folder_or_list(source: SourceFolder, entry: str, root: str, file: str) -> str | None:
    """The folder or list of images that an entry of ``data.yaml`` means.

    Entries are relative to ``path``, to the file, or absolute on another computer, so leading
    parts are dropped until the rest exists.
    """
    folders = {parent(image) for image in source.images}
    folders |= {'/'.join(f.split('/')[:n]) for f in list(folders) for n in range(f.count('/') + 1)}
    parts = [p for p in f'{root}/{entry}'.replace('\\', '/').split('/') if p not in ('', '.', '..')]
    for start in range(len(parts)):
        rest = '/'.join(parts[start:])
        for prefix in (parent(file), ''):
            path = f'{prefix}/{rest}' if prefix else rest
            if path in source or path in folders:
                return path
    return '' if entry in ('.', './') else None


def label_file(image: str) -> list[str]:
    """Paths where the labels of an image may lie, best first."""
    base = image.rpartition('.')[0]
    parts = base.split('/')
    paths = []
    for at in reversed(range(len(parts) - 1)):
        if parts[at].lower() in ('images', 'image', 'imgs', 'jpegimages'):
            for folder in ('labels', 'labelTxt', 'label', 'annotations', 'labels_txt'):
                paths.append('/'.join([*parts[:at], folder, *parts[at + 1 :]]) + '.txt')
    return [*paths, f'{base}.txt', f'labels/{base}.txt', f'labels/{parts[-1]}.txt']


def _read_line(text: str, names: dict[int, str], known: bool, keypoints: int) -> Annotation | str:
    """An object, or why a line is none."""
    index, *coordinates = (float(word) for word in text.split())
    if index != int(index) or (known and int(index) not in names):
        return f'class {index:g}, but {len(names)} names are given'
    label = names.setdefault(int(index), f'class_{int(index)}')
    if len(coordinates) == 5:
        return 'six numbers: this is a prediction with a score, not a label'
    if keypoints and len(coordinates) == 4 + keypoints:
        coordinates = coordinates[:4]
    finite = [abs(v) for v in coordinates if math.isfinite(v)]
    if finite and max(finite) > 2:
        return 'coordinates are not fractions of the image (0 to 1)'
    if len(coordinates) == 4:
        cx, cy, width, height = coordinates
        return Annotation(label, (cx - width / 2, cy - height / 2, width, height))
    if len(coordinates) < 6 or len(coordinates) % 2:
        return f'{len(coordinates) + 1} numbers: neither a box (5) nor a polygon (7, 9, 11, ...)'
    annotation = Annotation(label, polygons=[coordinates])
    if len(coordinates) == 8:
        annotation.corners = tuple(coordinates)
    return annotation


def _read_labels(
    reading: Reading, record: ImageRecord, names: dict[int, str], known: bool, keypoints: int
) -> None:
    """Reads the label file of an image.

    Args:
        reading: What was read so far.
        record: The image; gets the objects.
        names: Class names by index; gets names of new indices unless they are ``known``.
        known: Whether the source names the classes.
        keypoints: Number of values for key points that may follow a box.
    """
    for line, text in enumerate(reading.source.read_text(record.file).splitlines(), 1):
        if text.strip():
            read_line = partial(_read_line, text, names, known, keypoints)
            if annotation := reading.read_object(f'{record.file}:{line}', line, read_line):
                record.annotations.append(annotation)


def read(source: SourceFolder) -> Annotations:
    """Reads all images; one whose label file is missing or empty has no objects."""
    reading = Reading(source)
    file, settings = _settings(source)
    names = _class_names(source, settings)
    splits = _listed_splits(source, file, settings)
    keypoints = math.prod(settings.get('kpt_shape') or [0])
    known = bool(names)
    if not known:
        detail = 'no data.yaml, obj.names or classes.txt: classes are named class_0, class_1, ...'
        reading.data.report('note', 'no class names', '.', detail)
    used = set()
    texts = source.with_ending('.txt')
    labels_by_stem = {stem(f): f for f in texts}
    lower_case = {f.lower(): f for f in texts} | {f: f for f in texts}
    for image in source.images:
        paths = label_file(image)
        labels = next(
            (lower_case[p] for p in [*paths, *map(str.lower, paths)] if p in lower_case), None
        )
        if labels is None and (other := labels_by_stem.get(stem(image))):
            labels = other if source.find_image(stem(image)) == image else None
        record = ImageRecord(image, labels or '', splits.get(image) or split_of(image))
        record.normalised = True
        reading.records[image] = record
        if labels is None:
            reading.data.report('note', 'no label file: taken as an image without objects', image)
            continue
        used.add(labels)
        _read_labels(reading, record, names, known, keypoints)
    for unused in source.with_ending('.txt'):
        name = unused.rpartition('/')[2].lower()
        if unused not in used and name not in _NAME_FILES and _looks_like_labels(source, unused):
            reading.data.report('left out', 'labels without an image', unused)
    reading.data.classes = [names[index] for index in sorted(names)]
    return reading.finish()


def _looks_like_labels(source: SourceFolder, file: str) -> bool:
    lines = source.read_text(file).split('\n', 1)
    return is_label_line(lines[0]) and not is_image(lines[0].strip())
