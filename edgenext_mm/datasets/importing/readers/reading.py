"""What readers share: records of images that exist, and reports of what cannot be read."""

from __future__ import annotations

from collections.abc import Callable

from ..records import Annotation, Annotations, ImageRecord
from ..source import SourceFolder, split_of


class Reading:
    """Collects the records of a source.

    Args:
        source: The folder that is read.

    Attributes:
        data: What was read so far.
        records: Records by path of the image.
    """

    def __init__(self, source: SourceFolder) -> None:
        self.source = source
        self.data = Annotations()
        self.records: dict[str, ImageRecord] = {}

    def add(
        self,
        file: str,
        *names: str,
        size: tuple[int, int] | None = None,
        split: str | None = None,
    ) -> ImageRecord | None:
        """Adds the record of an image, or reports why it cannot be used.

        Args:
            file: The annotation file.
            *names: Names of the image; the first one that exists counts.
            size: Width and height that the file states. Default: None.
            split: Split that the file states. Default: None, inferred from the folders.

        Returns:
            The record; None if the image does not exist or has a record already.
        """
        found = (self.source.find_image(name, file) for name in names)
        path = next((path for path in found if path is not None), None)
        if path is None:
            self.data.report('left out', 'image not found', file, names[0])
            return None
        if path in self.records:
            detail = f'{path} is annotated by {self.records[path].file} already'
            self.data.report('left out', 'second annotation of an image', file, detail)
            return None
        split = split or split_of(path) or split_of(file)
        self.records[path] = ImageRecord(path, file, split, stated_size=size)
        return self.records[path]

    def read_object(
        self, where: str, position: int, read: Callable[[], Annotation | str]
    ) -> Annotation | None:
        """Reads one object, or reports why it cannot be read.

        Args:
            where: File and position for the report.
            position: Number that the object gets as its ``line``.
            read: Returns the object, or the reason why it is none.
        """
        try:
            annotation = read()
        except (KeyError, TypeError, ValueError, OSError) as error:
            annotation = f'{type(error).__name__}: {error}'
        if isinstance(annotation, str):
            self.data.report('left out', 'not an object', where, annotation)
            return None
        annotation.line = position
        return annotation

    def finish(self, sort_classes: bool = False) -> Annotations:
        """Returns what was read; reports the images that have no record.

        Args:
            sort_classes: Whether to take the classes from the objects, sorted by name. Default:
                False.
        """
        for image in self.source.images:
            if image not in self.records:
                self.data.report('left out', 'image without annotation', image)
        self.data.images = list(self.records.values())
        if sort_classes:
            objects = (a.label for record in self.data.images for a in record.annotations)
            labels = (label for record in self.data.images for label in record.labels)
            self.data.classes = sorted({*objects, *labels})
        return self.data
