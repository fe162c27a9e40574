"""CSV files: a name and a label per line, a box per line, or a column per class.

Roboflow's exports are among them: ``_annotations.csv`` (boxes; the same columns as the CSV of
TensorFlow's Object Detection API) and ``_classes.csv`` (a column of 0 and 1 per class).
"""

from __future__ import annotations

import csv
import io

from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of

_NAMES = ('filename', 'file_name', 'image', 'image_path', 'path', 'file', 'image_id', 'id', 'name')
_LABELS = ('class', 'label', 'class_name', 'category', 'target', 'labels', 'species', 'breed')
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
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    for file, layout in layouts(source).items():
        if layout == 'boxes':
            continue
        rows = _rows(source, file)
        header = [cell.lower() for cell in rows[0]]
        plain = layout == 'plain'
        name_at = 0 if plain else _column(header, _NAMES) or 0
        label_at = 1 if plain else _column(header, _LABELS)
        split_at = None if plain else _column(header, _SPLIT)
        if layout == 'columns':
            result.classes += [c for i, c in enumerate(rows[0]) if i != name_at]
        for line, row in enumerate(rows[0 if plain else 1 :], 1 if plain else 2):
            if not any(row):
                continue
            if len(row) != len(header):
                detail = f'{len(row)} cells instead of {len(header)}'
                result.report('left out', 'malformed line', f'{file}:{line}', detail)
                continue
            path = source.find_image(row[name_at], file)
            if path is None:
                result.report('left out', 'image not found', f'{file}:{line}', row[name_at])
                continue
            if layout == 'columns':
                cells = enumerate(row)
                labels = [rows[0][i] for i, c in cells if i != name_at and float(c or 0) == 1]
            else:
                labels = [row[label_at]] if label_at is not None and row[label_at] else []
            split = (split_of(row[split_at] + '/') if split_at is not None else None) or (
                split_of(path) or split_of(file)
            )
            if path in records and records[path].labels == labels:
                result.report('left out', 'repeated line', f'{file}:{line}', row[name_at])
                continue
            record = records.setdefault(path, ImageRecord(path, file, split))
            record.labels += [label for label in labels if label not in record.labels]
    result.images = list(records.values())
    result.classes = list(dict.fromkeys(result.classes)) or sorted(
        {label for record in result.images for label in record.labels}
    )
    return result


def read_boxes(source: SourceFolder) -> Annotations:
    """Reads a box per line; images without a line are left out."""
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    for file, layout in layouts(source).items():
        if layout != 'boxes':
            continue
        rows = _rows(source, file)
        header = [cell.lower() for cell in rows[0]]
        corners = next(names for names in _CORNERS if set(names) <= set(header))
        corners_at = [header.index(name) for name in corners]
        name_at, label_at = _column(header, _NAMES), _column(header, _LABELS)
        size_at = [header.index(n) for n in ('width', 'height') if n in header]
        if name_at is None or label_at is None:
            detail = f'columns {", ".join(rows[0])}'
            result.report('left out', 'no column for image or class', file, detail)
            continue
        for line, row in enumerate(rows[1:], 2):
            if not any(row):
                continue
            path = source.find_image(row[name_at], file)
            if path is None:
                result.report('left out', 'image not found', f'{file}:{line}', row[name_at])
                continue
            record = records.get(path)
            if record is None:
                record = ImageRecord(path, file, split_of(path) or split_of(file))
                records[path] = record
            try:
                x1, y1, x2, y2 = (float(row[i]) for i in corners_at)
                if len(size_at) == 2:
                    record.stated_size = (int(float(row[size_at[0]])), int(float(row[size_at[1]])))
            except (ValueError, IndexError):
                if row[label_at] or any(row[i] for i in corners_at if i < len(row)):
                    detail = ','.join(row)
                    result.report('left out', 'malformed line', f'{file}:{line}', detail)
                continue  # a line with an image alone: an image without objects
            box = (x1, y1, x2 - x1, y2 - y1)
            record.annotations.append(Annotation(row[label_at], box, line=line))
    result.images = list(records.values())
    result.classes = sorted({a.label for r in result.images for a in r.annotations})
    return result
