"""CSV files: a name and a label per line, a box per line, or a column per class.

Roboflow's exports are among them: ``_annotations.csv`` (boxes; the same columns as the CSV of
TensorFlow's Object Detection API) and ``_classes.csv`` (a column of 0 and 1 per class).
"""

from __future__ import annotations

import csv
import io
from functools import partial

from ..records import Annotation, Annotations
from ..source import SourceFolder, split_of
from .reading import Reading

_NAMES = (
    *('filename', 'file_name', 'image', 'image_path', 'image_name', 'filepath', 'file_path'),
    *('path', 'file', 'image_id', 'id', 'name'),
)
_LABELS = (
    *('class', 'label', 'class_name', 'label_name', 'class_label', 'category', 'category_name'),
    *('target', 'labels', 'species', 'breed'),
)
_CORNERS = [
    ('xmin', 'ymin', 'xmax', 'ymax'),
    ('x_min', 'y_min', 'x_max', 'y_max'),
    ('x1', 'y1', 'x2', 'y2'),
]
_SPLIT = ('split', 'subset', 'set')


def _rows(source: SourceFolder, file: str) -> list[list[str]]:
    text = source.read_text(file)
    first = text.partition('\n')[0]
    separator = max(',;\t', key=first.count)
    return [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)
    ]


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _layout(source: SourceFolder, file: str) -> str | None:
    """``boxes``, ``labels``, ``plain`` (no header), ``columns`` or None if it is neither."""
    rows = _rows(source, file)
    header = [cell.lower() for cell in rows[0]] if rows else []
    if len(header) < 2 or len(rows) < 2 or 'pixel value' in header:
        return None
    if {'r', 'g', 'b'} <= set(header) or {'red', 'green', 'blue'} <= set(header):
        return None  # a colour table
    if any(set(names) <= set(header) for names in _CORNERS):
        return 'boxes'
    name = _column(header, _NAMES)
    if name is None:
        is_plain = len(header) == 2 and source.find_image(rows[0][0], file) is not None
        return 'plain' if is_plain else None
    if source.find_image(rows[1][name], file) is None and not any(
        source.find_image(row[name], file) for row in rows[1:50] if len(row) > name
    ):
        return None
    if _column(header, _LABELS) is not None:
        return 'labels'
    values = {cell for row in rows[1:50] for i, cell in enumerate(row) if i != name}
    return 'columns' if values <= {'0', '1', '0.0', '1.0'} else None


def layouts(source: SourceFolder) -> dict[str, str]:
    """The CSV files that can be read, and the layout of each."""
    found = {file: _layout(source, file) for file in source.with_ending('.csv', '.tsv')}
    return {file: layout for file, layout in found.items() if layout is not None}


def read_labels(source: SourceFolder) -> Annotations:
    """Reads labels of complete images."""
    reading = Reading(source)
    for file, layout in layouts(source).items():
        if layout != 'boxes':
            _read_label_file(reading, file, layout)
    return reading.finish(sort_classes=not reading.data.classes)


def _read_label_file(reading: Reading, file: str, layout: str) -> None:
    rows = _rows(reading.source, file)
    header, first = rows[0], 1
    if layout == 'plain':
        header, first = ['name', 'class'], 0
    lower = [cell.lower() for cell in header]
    name_column = _column(lower, _NAMES) or 0
    label_column, split_column = _column(lower, _LABELS), _column(lower, _SPLIT)
    if layout == 'columns':
        reading.data.classes += [name for i, name in enumerate(header) if i != name_column]
    for line, row in enumerate(rows[first:], first + 1):
        if not any(row):
            continue
        if len(row) != len(header):
            detail = f'{len(row)} cells instead of {len(header)}'
            reading.data.report('left out', 'malformed line', f'{file}:{line}', detail)
            continue
        if layout == 'columns':
            cells = enumerate(row)
            labels = [header[i] for i, cell in cells if i != name_column and cell in ('1', '1.0')]
        else:
            labels = [row[label_column or 0]]
            if not labels[0]:
                reading.data.report('left out', 'no label', f'{file}:{line}')
                continue
        path = reading.source.find_image(row[name_column], file) or row[name_column]
        split = split_of(f'{row[split_column]}/') if split_column is not None else None
        record = reading.records.get(path) or reading.add(file, path, split=split)
        if record is not None:
            record.labels += [label for label in labels if label and label not in record.labels]


def read_boxes(source: SourceFolder) -> Annotations:
    """Reads a box per line; images without a line are left out."""
    reading = Reading(source)
    for file, layout in layouts(source).items():
        if layout == 'boxes':
            _read_box_file(reading, file)
    return reading.finish(sort_classes=True)


def _read_box_file(reading: Reading, file: str) -> None:
    rows = _rows(reading.source, file)
    header = [cell.lower() for cell in rows[0]]
    corners = next(names for names in _CORNERS if set(names) <= set(header))
    name_column, label_column = _column(header, _NAMES), _column(header, _LABELS)
    if name_column is None or label_column is None:
        detail = f'columns {", ".join(rows[0])}'
        reading.data.report('left out', 'no column for image or class', file, detail)
        return
    for line, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        cells = dict(zip(header, row, strict=False))
        path = reading.source.find_image(row[name_column], file) or row[name_column]
        record = reading.records.get(path) or reading.add(file, path, size=_size(cells))
        if record is None or not any(cells.get(name) for name in corners):
            continue  # an image alone has no objects
        label = cells.get(header[label_column], '')
        if annotation := reading.read_object(
            f'{file}:{line}', line, partial(_read_box, label, cells, corners)
        ):
            record.annotations.append(annotation)


def _size(cells: dict[str, str]) -> tuple[int, int] | None:
    try:
        return int(float(cells['width'])), int(float(cells['height']))
    except (KeyError, ValueError):
        return None


def _read_box(label: str, cells: dict[str, str], corners: tuple[str, ...]) -> Annotation | str:
    if not label:
        return 'no class'
    x1, y1, x2, y2 = (float(cells[name]) for name in corners)
    return Annotation(label, (x1, y1, x2 - x1, y2 - y1))
