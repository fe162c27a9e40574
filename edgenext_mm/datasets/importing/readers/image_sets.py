"""Lists of images per split, as Pascal VOC has them: ``ImageSets/Main/train.txt``."""

from __future__ import annotations

import re

from ..source import SourceFolder, is_image, stem


def read_lists(source: SourceFolder, folder: str) -> dict[str, str | None]:
    """Split by name of the image; None for images of ``trainval`` alone.

    Args:
        source: The folder.
        folder: Folder of ``ImageSets`` whose lists count, such as ``main``. If it is not there,
            those of the other folders do.
    """
    files = [f for f in source.with_ending('.txt') if 'imagesets' in f.lower().split('/')[:-1]]
    own = [f for f in files if f'/{folder}/' in f'/{f.lower()}'] or files
    known = {stem(file) for file in source.files}
    lists: dict[str, set[str]] = {}
    for file in own:
        split = stem(file).lower()
        if split in ('train', 'val', 'test', 'trainval'):
            lines = [line.strip() for line in source.read_text(file).splitlines()]
            names = {_name(line, known) for line in lines if line}
            lists.setdefault(split, set()).update(names)
    splits: dict[str, str | None] = dict.fromkeys(lists.get('trainval', ()))
    for split in ('test', 'val', 'train'):
        splits.update(dict.fromkeys(lists.get(split, ()), split))
    return splits


def _name(line: str, known: set[str]) -> str:
    """The name in a line, without quotation marks, ending and the numbers that may follow it."""
    if match := re.match(r'"(.+)"', line):
        return match[1]
    line = re.sub(r'^.*jpegimages/', '', line.replace('\\', '/'), flags=re.IGNORECASE)
    if is_image(line):
        return line.rpartition('.')[0]
    return line if line.rpartition('/')[2] in known else re.sub(r'(\s+-?\d+)+$', '', line)


def find_listed(splits: dict[str, str | None], path: str) -> str | None:
    """The name under which a file is listed: the longest one that its path without ending has."""
    parts = (path.rpartition('.')[0] or path).split('/')
    tails = ('/'.join(parts[at:]) for at in range(len(parts)))
    return next((tail for tail in tails if tail in splits), None)
