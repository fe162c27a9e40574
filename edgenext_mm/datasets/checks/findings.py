"""What can be wrong with a data set, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A kind of fault.

    Args:
        severity: ``error`` or ``warning``.
        meaning: What it is, in a few words.
    """

    severity: str
    meaning: str


def _errors(**meanings: str) -> dict[str, Kind]:
    return {name: Kind('error', meaning) for name, meaning in meanings.items()}


def _warnings(**meanings: str) -> dict[str, Kind]:
    return {name: Kind('warning', meaning) for name, meaning in meanings.items()}


#: All kinds; docs/datasets/checking.md says what training does about each.
KINDS = {
    # The data set as a whole.
    **_errors(
        structure='the data set cannot be used as the config names it',
        classes='classes that do not agree with the data, the model or another split',
        evaluator='an evaluator that reads other annotations than the data loader',
        no_objects='annotations none of which can be used',
        box_units='boxes as fractions of the image, or as two corners',
        masks_ignored='masks in which all but one class is ignored',
        malformed='a line or entry of an annotation file that is no annotation',
        duplicate_id='an id that a COCO file gives twice, of an image or an annotation',
        orphan='an annotation of an image or category that the COCO file does not list',
        label_conflict='an image that is listed twice, with two labels',
        split_overlap='an image of the same content in training and in validation or test',
    ),
    **_warnings(
        duplicate_entry='an image that is listed twice',
        duplicate_image='two images of a split with the same content',
        other_classes='a part of the model or a split with more or fewer classes',
        evaluator_objects='an evaluator whose objects differ from those of the data loader',
        annotation_zero='an annotation with the id 0, which pycocotools evaluates wrongly',
        left_out_box='boxes that are not used, by reason',
        left_out_image='images that are not used, by reason',
        left_out_file='images that are not read because of their endings',
        masks_one_class='masks that show a single class',
        mask_palette='a value of a mask that has another colour in other masks',
        empty_class='a class without a single example in the training data',
    ),
    # Image files.
    **_errors(
        missing_image='there is no such file',
        empty_file='a file of zero bytes',
        truncated='a JPEG or PNG file whose end is missing',
        unreadable='no image, as far as the decoder can tell',
        corrupt='the decoder reports damage, and returns a picture all the same',
        elongated='one side is more than 100 times the other',
        size_mismatch='another size than its annotations say',
    ),
    **_warnings(
        tiny='a side of fewer than 8 pixels',
        sixteen_bit='16 bits per channel, of which the upper 8 are used',
        cmyk='colours for print, which are converted without a profile',
        alpha='transparent pixels, whose hidden colours become visible',
        animated='several frames, of which the first is used',
        exif_orientation='a turned photograph; boxes and masks may be for it as stored',
    ),
    # Annotations.
    **_errors(
        label_range='a label that no class has',
        box_not_finite='a box with a coordinate that is no finite number',
        box_negative='a box of negative width or height',
        box_outside='a box wholly outside its image',
        outline_not_finite='an outline with a coordinate that is no finite number',
        missing_mask='there is no such file',
        mask_size='a mask of another size than its image',
        mask_value='a value in a mask that no class has',
        mask_mode='a mask in colour',
    ),
    **_warnings(
        box_empty='a box less than a pixel wide or high, which is left out',
        box_partly_outside='a box that reaches more than a pixel beyond its image',
        outline_short='an outline of fewer than three corners; its object is ignored',
    ),
}


class Problem(NamedTuple):
    """A fault of something at hand.

    Args:
        kind: A key of :data:`KINDS`.
        detail: The rest of a sentence that begins with the name of the file.
    """

    kind: str
    detail: str

    @property
    def is_error(self) -> bool:
        """Whether training must not use it."""
        return KINDS[self.kind].severity == 'error'


#: The path of a file at fault, or a place in it, and the fault.
Located = tuple[str, Problem]


def listing(values: Sequence[Any], count: int = 12) -> str:
    """The first values, and how many more there are."""
    shown = ', '.join(map(repr, values[:count]))
    return shown + (f' and {len(values) - count} more' if len(values) > count else '')


@dataclass(frozen=True)
class Finding:
    """A fault and where it is.

    Args:
        split: ``train``, ``val`` or ``test``.
        file: Path of the file at fault.
        kind: A key of :data:`KINDS`.
        detail: The rest of a sentence that begins with the file.
    """

    split: str
    file: str
    kind: str
    detail: str

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return KINDS[self.kind].severity
