"""The common form that all annotation formats are read into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]

IGNORE = '__ignore__'  #: LabelMe's label of regions that are ignored in training


@dataclass(slots=True)
class Annotation:
    """One labelled object of an image.

    Coordinates are in pixels; the left upper corner of the image is (0, 0) and the right lower
    corner is (width, height). They are fractions of the image if :attr:`ImageRecord.normalised`.

    Args:
        label: Name of the class.
        box: Left, top, width and height. Default: None.
        polygons: Outlines, each as ``[x1, y1, x2, y2, ...]``; parts of one object. Default: none.
        rle: COCO run lengths, ``dict(size=[height, width], counts=...)``. Default: None.
        corners: ``(x1, y1, ..., x4, y4)`` of a rotated box. Default: None.
        crowd: Whether it is a region of many objects, as COCO's ``iscrowd``.
        difficult: Whether the source marks it as difficult.
        area: Area in pixels, if the source states it. Default: None.
        line: Line or entry number in the annotation file, from 1. Default: None.
    """

    label: str
    box: Box | None = None
    polygons: list[list[float]] = field(default_factory=list)
    rle: dict[str, Any] | None = None
    corners: tuple[float, ...] | None = None
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    line: int | None = None


@dataclass(slots=True)
class ImageRecord:
    """One image and its annotations.

    Args:
        path: Path relative to the source folder, with ``/``.
        file: Annotation file that names it, relative to the source folder. Default: ''.
        split: ``train``, ``val`` or ``test``, if the source says so. Default: None.
        annotations: Objects. Default: none.
        labels: Classes of the complete image. Default: none.
        mask: Path of an index or colour mask, relative to the source folder. Default: None.
        stated_size: Width and height that the annotation file states. Default: None.
        normalised: Whether coordinates are fractions of the image's width and height.
        embedded: Whether the pixels are inside ``file`` (LabelMe's ``imageData``).
        width: Width in pixels of the image as training loads it; 0 until it is measured.
        height: Height in pixels, likewise.
        orientation: EXIF orientation that loading applies; 1 if none.
    """

    path: str
    file: str = ''
    split: str | None = None
    annotations: list[Annotation] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    mask: str | None = None
    stated_size: tuple[int, int] | None = None
    normalised: bool = False
    embedded: bool = False
    width: int = 0
    height: int = 0
    orientation: int = 1


@dataclass(slots=True, frozen=True)
class Finding:
    """Something in the source that was changed, left out or is worth knowing.

    Args:
        action: ``changed``, ``left out`` or ``note``.
        kind: A few words that are the same for all findings of this kind.
        file: File that it concerns, relative to the source folder; with ``:LINE`` if known.
        detail: What exactly. Default: ''.
    """

    action: str
    kind: str
    file: str
    detail: str = ''


@dataclass
class MaskLegend:
    """What the pixels of masks mean.

    Args:
        names: Class names by pixel value (int) or by colour (r, g, b); empty if unknown.
        void: Pixel values or colours that belong to no class.
        entries: Keys of both, in the order of the table.
    """

    names: dict[Any, str] = field(default_factory=dict)
    void: set[Any] = field(default_factory=set)
    entries: list[Any] = field(default_factory=list)

    @property
    def is_colour(self) -> bool:
        """Whether masks are read as RGB colours."""
        return any(isinstance(key, tuple) for key in self.names)

    def by_position(self) -> MaskLegend:
        """The legend of masks whose values are positions in the table of colours."""
        names = {i: self.names[key] for i, key in enumerate(self.entries) if key in self.names}
        return MaskLegend(names, set(range(len(self.entries))) - set(names))


@dataclass
class Annotations:
    """Everything that was read from a source.

    Args:
        images: Records of the images.
        classes: Class names in the order of the source; classes that only occur at objects are
            appended by the importer. Default: none.
        findings: What the reader reports. Default: none.
        legend: Meaning of the masks' pixels; None if there are no masks.
    """

    images: list[ImageRecord] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    legend: MaskLegend | None = None

    def report(self, action: str, kind: str, file: str, detail: str = '') -> None:
        """Appends a :class:`Finding`."""
        self.findings.append(Finding(action, kind, file, detail))
