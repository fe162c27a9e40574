"""Faults of image files that can be seen without decoding them, and those that decoders hide."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from .findings import Problem

#: Endings of image files, in lower case; those in upper case count as well. Inference reads such
#: files, and so do the data sets of the configs that take folders of images.
IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_EXIF_ORIENTATION = 0x0112


def file_problem(content: bytes) -> Problem | None:
    """Whether a file is empty or cut short, as far as its bytes tell; takes microseconds.

    Decoders differ in what they make of a JPEG or PNG whose end is missing: an error or, as older
    OpenCV for JPEG and Pillow for PNG do, a picture with a grey or black rest. Other formats are
    errors for every decoder.

    Args:
        content: Of an image file.
    """
    if not content:
        return Problem('empty_file', 'is empty (zero bytes).')
    if content.startswith(_JPEG_START):
        # Pictures within the header have ends of their own, so the end of the last scan counts.
        complete = content.rfind(_JPEG_END, _start_of_scan(content)) >= 0
    elif content.startswith(_PNG_START):
        complete = content.rfind(_PNG_END) >= 0
    else:
        return None
    if complete:
        return None
    return Problem('truncated', f'is cut short: its {len(content):,} bytes hold no end marker.')


def mask_file_problem(content: bytes) -> Problem | None:
    """As :func:`file_problem`, and whether a mask holds more than the 8 bits that mmseg keeps.

    Args:
        content: Of a mask's file.
    """
    problem = file_problem(content)
    bit_depth = content[24] if content.startswith(_PNG_START) else 0
    if problem is not None or bit_depth != 16:
        return problem
    with Image.open(io.BytesIO(content)) as mask:
        highest = int(np.asarray(mask).max())
    if highest <= 255:
        return None
    return Problem(
        'mask_value', f'holds the value {highest}; of values above 255, mmseg keeps 8 bits.'
    )


def _start_of_scan(content: bytes) -> int:
    """Where the header of a JPEG ends; the end of the file if it holds no scan."""
    position = 2
    while content[position : position + 1] == b'\xff':
        if content[position : position + 2] == _JPEG_SCAN:
            return position
        if content[position : position + 2] == b'\xff\xff':  # padding
            position += 1
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    scan = content.find(_JPEG_SCAN, position)
    return scan if scan >= 0 else len(content)


def format_problems(content: bytes, decoder: str, color_type: str = 'color') -> Iterator[Problem]:
    """What an image holds that becomes something else when it is loaded.

    Args:
        content: Of a file that a decoder has read.
        decoder: mmcv's name of it: ``cv2``, ``pillow``, ``turbojpeg`` or ``tifffile``.
        color_type: Of the loading step; ``unchanged`` keeps 16 bits and alpha channels. Default:
            ``color``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                kept = ('sixteen_bit', 'alpha') if color_type == 'unchanged' else ()
                yield from (p for p in _mode_problems(image, decoder) if p.kind not in kept)
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return  # a format that Pillow does not know
    if orientation != 1:
        yield Problem(
            'exif_orientation',
            f'is stored turned (EXIF orientation {orientation}); annotations must be for the '
            'image as it is loaded.',
        )


def _mode_problems(image: Image.Image, decoder: str) -> Iterator[Problem]:
    if image.mode.startswith('I') or _raw_mode(image).endswith('16B'):
        clipped = decoder == 'pillow' and image.mode.startswith('I')
        yield Problem(
            'sixteen_bit',
            'has 16 bits per channel; '
            + ('Pillow clips what is above 255.' if clipped else 'the lower eight are dropped.'),
        )
    if image.mode == 'CMYK':
        yield Problem('cmyk', 'is in CMYK, converted to RGB without a colour profile.')
    if image.has_transparency_data:
        lowest = image.convert('RGBA').getchannel('A').getextrema()[0]
        if lowest < 255:
            yield Problem('alpha', 'has transparent pixels, whose hidden colours are used.')
    frames = getattr(image, 'n_frames', 1)
    if frames > 1:
        yield Problem('animated', f'has {frames} frames, of which the first is used.')


def _raw_mode(image: Image.Image) -> str:
    """How a file stores its pixels; Pillow's mode of 16-bit colour is that of 8-bit colour."""
    arguments = image.tile[0][3] if image.tile else ''
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


@contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collects what decoders write to the process's standard error.

    libjpeg and libtiff report damage there and nowhere else. What they call a warning, such as
    libpng of odd colour profiles, is harmless and left out. For processes of one thread.

    Yields:
        A list that holds the lines once the block has ended.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            messages = file.read().decode(errors='replace').splitlines()
            lines += [line for line in messages if line and 'warn' not in line.lower()]
