"""DOTA labelTxt: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` per line, after header lines."""

from __future__ import annotations

from functools import partial

from ..records import Annotation, Annotations
from ..source import SourceFolder, stem
from .reading import Reading


def _read_line(text: str) -> Annotation | str:
    """An object, or why a line is none."""
    words = text.replace(',', ' ').split()
    if not _is_object(words):
        return f'not eight numbers, a class and a difficulty: {text[:80]}'
    corners = tuple(float(word) for word in words[:8])
    return Annotation(words[8], corners=corners, difficult=words[9:] not in ([], ['0']))


def _is_object(words: list[str]) -> bool:
    """Whether a line has eight coordinates, a class and, perhaps, a difficulty.

    The class may be a number if there is a difficulty and the coordinates are in pixels; other
    lines of numbers are YOLO's.
    """
    if len(words) not in (9, 10) or not all(map(_is_number, words[:8])):
        return False
    if not _is_number(words[8]):
        return True
    in_pixels = any(abs(float(word)) > 2 for word in words[:8])
    return len(words) == 10 and in_pixels and words[9] in ('0', '1', '2')


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
    return _is_header(first) or _is_object(first.split())


def read(source: SourceFolder) -> Annotations:
    """Reads label files; a file without objects is an image without objects.

    Images without a label file are left out.
    """
    reading = Reading(source)
    for file in source.with_ending('.txt'):
        text = source.read_text(file)
        if text.strip() and not is_dota(text):
            continue  # a list of classes, of images or a readme
        record = reading.add(file, stem(file))
        if record is None:
            continue
        for line, content in enumerate(text.splitlines(), 1):
            if not content.strip() or _is_header(content.strip()):
                continue
            if annotation := reading.read_object(
                f'{file}:{line}', line, partial(_read_line, content)
            ):
                record.annotations.append(annotation)
    return reading.finish(sort_classes=True)
