"""Classification: a folder of images per class, with or without folders of splits above."""

from __future__ import annotations

from ..records import Annotations, ImageRecord
from ..source import SourceFolder, split_of


def _parts(path: str) -> tuple[str | None, str | None]:
    """Split and class of ``[SPLIT/]CLASS/[...]/IMAGE``."""
    folders = path.split('/')[:-1]
    split = split_of(folders[0] + '/') if folders else None
    if split is not None:
        folders = folders[1:]
    return split, folders[0] if folders else None


def recognises(source: SourceFolder) -> bool:
    """Whether images lie in at least two folders that can be classes."""
    found = {_parts(image)[1] for image in source.images}
    names = {name.lower() for name in found if name is not None}
    return len(names - {'images', 'masks', 'labels', 'annotations', 'jpegimages'}) >= 2


def read(source: SourceFolder) -> Annotations:
    """Reads ``CLASS/a.jpg`` or ``SPLIT/CLASS/a.jpg``; classes are sorted by name."""
    result = Annotations()
    for path in source.images:
        split, label = _parts(path)
        if label is None:
            result.report('left out', 'image outside the class folders', path)
            continue
        result.images.append(ImageRecord(path, split=split, labels=[label]))
    result.classes = sorted({record.labels[0] for record in result.images})
    return result
