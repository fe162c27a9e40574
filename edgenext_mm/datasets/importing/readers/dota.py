"""DOTA labelTxt: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` per line, after header lines."""

from __future__ import annotations

from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of, stem


def _read_line(text: str) -> Annotation | None:
    words = text.replace(',', ' ').split()
    try:
        corners = tuple(float(word) for word in words[:8])
    except ValueError:
        return None
    if len(words) not in (9, 10) or len(corners) < 8 or _is_number(words[8]):
        return None
    return Annotation(words[8], corners=corners, difficult=words[9:] not in ([], ['0']))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_header(text: str) -> bool:
    return text.lower().startswith(('imagesource', 'gsd'))


def is_dota(text: str) -> bool:
    """Whether the first line that is not empty is a header or an object of DOTA."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), '')
    return _is_header(first) or _read_line(first) is not None


def read(source: SourceFolder) -> Annotations:
    """Reads label files; a file without objects is an image without objects.

    Images without a label file are left out.
    """
    result = Annotations()
    records: dict[str, ImageRecord] = {}
    for file in source.with_ending('.txt'):
        text = source.read_text(file)
        path = source.find_image(stem(file), file)
        if text.strip() and not is_dota(text):
            if path is not None:
                result.report('left out', 'not a DOTA file', file, text.splitlines()[0][:80])
            continue
        if path is None:
            result.report('left out', 'image not found', file, stem(file))
            continue
        if path in records:
            detail = f'{path} is annotated by {records[path].file} already'
            result.report('left out', 'image with two annotation files', file, detail)
            continue
        record = ImageRecord(path, file, split_of(path) or split_of(file))
        records[path] = record
        for line, content in enumerate(text.splitlines(), 1):
            if not content.strip() or _is_header(content.strip()):
                continue
            annotation = _read_line(content)
            if annotation is None:
                result.report('left out', 'malformed line', f'{file}:{line}', content[:80])
            else:
                annotation.line = line
                record.annotations.append(annotation)
    for image in source.images:
        if image not in records:
            result.report('left out', 'image without annotation file', image)
    result.images = list(records.values())
    result.classes = sorted({a.label for r in result.images for a in r.annotations})
    return result
