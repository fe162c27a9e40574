"""Faults of image files, found in their names, their bytes or the messages of their decoders."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from .findings import Problem, listing

#: Folders that operating systems and archives create, besides those with a leading dot.
_SYSTEM_FOLDERS = ('__MACOSX', '__pycache__', '@eaDir', '$RECYCLE.BIN', 'lost+found')
#: Extensions of images that Pillow does not read.
_OTHER_IMAGES = ('.heic', '.heif', '.jxl', '.dng', '.npy')

_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_TIFF_STARTS, _BIG_TIFF_START = (b'II*\0', b'MM\0*', b'II+\0'), b'II+\0'
_FLOAT = 3  # of TIFF's tag SampleFormat
#: libtiff's SGILOG and SGILOG24: the logarithms of floats.
_LOG_COMPRESSIONS = (34676, 34677)


def is_hidden(path: str) -> bool:
    """Whether a relative path has a hidden part, such as ``.ipynb_checkpoints`` or ``._a.jpg``."""
    parts = path.replace(os.sep, '/').split('/')
    return any(part.startswith('.') or part in _SYSTEM_FOLDERS for part in parts)


def left_out_files(
    root: str | Path, extensions: Sequence[str], fold_case: bool = True
) -> Iterator[Problem]:
    """Yields a problem if a folder has images that a data set ignores because of their extensions.

    Args:
        root: A folder.
        extensions: The extensions that the data set reads.
        fold_case: Whether the data set ignores case. Default: True.
    """
    Image.init()
    images = {*Image.registered_extensions(), *_OTHER_IMAGES}
    names = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        names += [
            os.path.relpath(os.path.join(folder, name), root)
            for name in files
            if not is_hidden(name)
            and os.path.splitext(name)[1].lower() in images
            and not (name.lower() if fold_case else name).endswith(tuple(extensions))
        ]
    if names:
        counts = Counter(os.path.splitext(name)[1] for name in names).most_common()
        yield Problem(
            'left_out_file',
            f'contains {len(names):,} images that are not used because of their extensions '
            f'({", ".join(f"{ending} {count:,}" for ending, count in counts)}): '
            f'{listing(sorted(names), 3)}. The data set reads {", ".join(sorted(extensions))}.',
            str(root),
        )


def decoding_settings(step: Any) -> tuple[str, str]:
    """Returns the decoder and the colour type of a loading step."""
    decoder = getattr(step, 'imdecode_backend', None) or 'cv2'
    return decoder, getattr(step, 'color_type', 'unchanged')


def file_problem(
    content: bytes, decoder: str = 'cv2', color_type: str = 'unchanged'
) -> Problem | None:
    """Checks whether a file is empty, cut short or a TIFF of floats. It takes microseconds.

    Decoders disagree about a JPEG or PNG whose end is missing: some raise an error, others (older
    OpenCV for JPEG, Pillow for PNG) return an image whose rest is grey or black. For other formats
    every decoder raises an error. Of a TIFF of floats, OpenCV and Pillow clip the values to 0 to
    255 unless ``color_type`` is ``unchanged``.

    Args:
        content: The bytes of an image file.
        decoder: mmcv's name of the decoder: ``cv2``, ``pillow``, ``turbojpeg`` or ``tifffile``.
            Default: ``cv2``.
        color_type: ``color_type`` of the loading step. Default: ``unchanged``.
    """
    complete = True
    if not content:
        return Problem('empty_file', 'is empty (zero bytes).')
    if content.startswith(_JPEG_START):
        # Thumbnails in the header have end markers too, so search behind the start of the scan.
        complete = content.rfind(_JPEG_END, _start_of_scan(content)) >= 0
    elif content.startswith(_PNG_START):
        complete = content.rfind(_PNG_END) >= 0
    if not complete:
        return Problem('truncated', f'is cut short: its {len(content):,} bytes have no end marker.')
    converts = decoder != 'tifffile' and color_type != 'unchanged'
    if converts and content.startswith(_TIFF_STARTS) and _has_floats(content):
        return Problem(
            'unreadable',
            'is a TIFF of floats, which the loading step would clip to 0 to 255. Convert it to 8 '
            "bits, or set color_type='unchanged' or imdecode_backend='tifffile' in that step.",
        )
    return None


def _start_of_scan(content: bytes) -> int:
    """Returns the position where the header of a JPEG ends; the length if there is no scan."""
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


def _has_floats(content: bytes) -> bool:
    """Whether the pixels of a TIFF are floats, also within SGI's LogLuv compression."""
    try:
        header_size = 16 if content.startswith(_BIG_TIFF_START) else 8
        tags = TiffImagePlugin.ImageFileDirectory_v2(content[:header_size])
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        is_log = tags.get(TiffImagePlugin.COMPRESSION) in _LOG_COMPRESSIONS
        return is_log or _FLOAT in tags.get(TiffImagePlugin.SAMPLEFORMAT, ())
    except Exception:  # a damaged header, which the decoder reports
        return False


def mask_file_problem(content: bytes) -> Problem | None:
    """Checks a file as :func:`file_problem` does, and for values that mmseg reduces to 8 bits.

    Args:
        content: The bytes of a mask file.
    """
    problem = file_problem(content)
    bit_depth = content[24] if content.startswith(_PNG_START) else 0
    if problem is not None or bit_depth != 16:
        return problem
    with Image.open(io.BytesIO(content)) as mask:
        highest = int(np.asarray(mask).max())
    if highest <= 255:
        return None
    return Problem('mask_value', f'has the value {highest}, but mmseg reads only 8 bits.')


def format_problems(content: bytes, decoder: str, color_type: str = 'color') -> Iterator[Problem]:
    """Yields what changes when an image is loaded, such as a dropped alpha channel.

    Args:
        content: The bytes of a file that a decoder has read.
        decoder: mmcv's name of the decoder: ``cv2``, ``pillow``, ``turbojpeg`` or ``tifffile``.
        color_type: ``color_type`` of the loading step; ``unchanged`` keeps 16 bits and alpha
            channels. Default: ``color``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                kept = ('sixteen_bit', 'alpha') if color_type == 'unchanged' else ()
                if decoder != 'tifffile':  # which changes nothing, and reads all frames
                    yield from (p for p in _mode_problems(image, decoder) if p.kind not in kept)
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return  # a format that Pillow does not know
    if orientation != 1:
        yield Problem(
            'exif_orientation',
            f'is stored rotated (EXIF orientation {orientation}). Its annotations must be for the '
            'image as it is loaded.',
        )


def _mode_problems(image: Image.Image, decoder: str) -> Iterator[Problem]:
    # Pillow's mode of 16-bit colour is that of 8-bit colour; the raw mode of the tile differs.
    arguments = image.tile[0][3] if image.tile else ''
    raw_mode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    if image.mode.startswith('I') or raw_mode.endswith('16B'):
        clipped = decoder == 'pillow' and image.mode.startswith('I')
        effect = 'Pillow clips values above 255.' if clipped else 'the lower eight are dropped.'
        yield Problem('sixteen_bit', f'has 16 bits per channel; {effect}')
    if image.mode == 'CMYK':
        yield Problem('cmyk', 'is in CMYK, which is converted to RGB without a colour profile.')
    if image.has_transparency_data:
        lowest = image.convert('RGBA').getchannel('A').getextrema()[0]
        if lowest < 255:
            yield Problem('alpha', 'has transparent pixels, whose hidden colours are used.')
    frames = getattr(image, 'n_frames', 1)
    if frames > 1:
        yield Problem('animated', f'has {frames} frames, of which the first is used.')


@contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collects what decoders write to the standard error of the process.

    libjpeg and libtiff report damage only there. Lines with "warn", such as those of libpng about
    colour profiles, are harmless and left out. Use it in processes with one thread only.

    Yields:
        A list that contains the lines after the block has ended.
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
