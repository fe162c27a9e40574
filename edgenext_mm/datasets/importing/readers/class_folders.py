"""Classification: a folder of images per class, with or without folders of splits above."""

from __future__ import annotations

from ..records import Annotations, ImageRecord
from ..source import SourceFolder, split_of


def _places(source: SourceFolder) -> dict[str, tuple[str | None, str | None]]:
    """Split and class of each image.

    Folders at the top are splits only if all of them have names of splits: in a set of vehicles,
    ``train`` is a class beside ``bus`` and ``car``.
    """
    folders = {image: image.split('/')[:-1] for image in source.images}
    tops = {parts[0] for parts in folders.values() if parts}
    while (
        len(tops) == 1
        and not split_of(f'{min(tops)}/')
        and all(folders.values())
        and any(len(parts) > 1 for parts in folders.values())
    ):
        folders = {image: parts[1:] for image, parts in folders.items()}  # around all folders
        tops = {parts[0] for parts in folders.values() if parts}
    has_splits = all(split_of(f'{top}/') for top in tops)
    places = {}
    for image, parts in folders.items():
        split = split_of(f'{parts[0]}/') if parts and has_splits else None
        rest = parts[1:] if split else parts
        places[image] = (split, rest[0] if rest else None)
    return places


def names(source: SourceFolder) -> list[str]:
    """Folders that can be classes."""
    found = {label for _, label in _places(source).values() if label is not None}
    others = {'images', 'masks', 'labels', 'annotations', 'jpegimages'}
    return sorted(name for name in found if name.lower() not in others)


def recognises(source: SourceFolder) -> bool:
    """Whether images lie in at least two folders that can be classes."""
    return len({name.lower() for name in names(source)}) >= 2


def read(source: SourceFolder) -> Annotations:
    """Reads ``CLASS/a.jpg`` or ``SPLIT/CLASS/a.jpg``; classes are sorted by name."""
    result = Annotations()
    for path, (split, label) in _places(source).items():
        if label is None:
            result.report('left out', 'image outside the class folders', path)
            continue
        result.images.append(ImageRecord(path, split=split, labels=[label]))
    result.classes = sorted({record.labels[0] for record in result.images})
    return result
