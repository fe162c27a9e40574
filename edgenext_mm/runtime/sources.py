"""What can be given to a model: images, folders, patterns, videos and streams."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image

from ..errors import UserError

#: Extensions of image files in lower case; upper case counts as well. Inference and the data sets
#: of the image-folder configs read these files.
IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Endings of video files, in lower case.
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
#: Addresses of streams.
STREAM = re.compile(r'(rtsp|rtmp|udp|tcp)://.+|camera:\d+')

ImageSource = Union[str, Path, np.ndarray, Image.Image]


def is_single(source: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether a source is one image, not a folder or a sequence of sources."""
    return isinstance(source, (str, Path, np.ndarray, Image.Image)) and not _is_folder(source)


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, Path)) and os.path.isdir(source)


def list_images(sources: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """Lists all images of one or several sources.

    Folders and their sub-folders are searched in order for names with one of the
    :data:`IMAGE_EXTENSIONS` in upper or lower case. As in training, hidden files such as the
    ``._NAME.jpg`` of macOS are ignored, and so are hidden folders. Patterns such as
    ``photos/*.jpg`` and ``photos/**/*.png`` stand for the files that they match, in order.

    Returns:
        Files as paths, other sources unchanged. Missing files, and folders that contain no images
        or cannot be opened, are in the list as well, so that the other images can be read.

    Raises:
        UserError: If none of the sources is an image or a folder of images.
    """
    if isinstance(sources, (str, bytes, np.ndarray)) or not isinstance(sources, Iterable):
        sources = [sources]
    images: list[ImageSource] = []
    problems: list[UserError] = []
    for source in [match for given in sources for match in _matches(given)]:
        found = list(_images_in(Path(str(source)))) if _is_folder(source) else []
        if not found and (problem := source_problem(source)):
            problems.append(problem)
        if isinstance(source, str) and not is_url(source):
            source = Path(source)
        images.extend(found or [source])
    if not images:
        raise UserError('No image was given. Give files, folders, URLs or arrays.')
    if len(problems) == len(images):
        raise problems[0]
    return images


def _matches(source: ImageSource) -> list[ImageSource]:
    """Returns the files that a pattern matches; anything else unchanged."""
    if isinstance(source, (str, Path)) and glob.has_magic(str(source)):
        text = os.path.expanduser(str(source))
        if not is_url(text) and not os.path.exists(text):
            return sorted(glob.glob(text, recursive=True)) or [source]
    return [source]


def source_problem(source: object) -> UserError | None:
    """Returns why a source is not an image, as far as can be seen without opening it."""
    if isinstance(source, (np.ndarray, Image.Image)) or is_url(source):
        return None
    if _is_folder(source):
        return UserError(
            f'The folder {source} contains no image, or cannot be opened. The extensions of images '
            f'are {", ".join(IMAGE_EXTENSIONS)}.'
        )
    if isinstance(source, (str, Path)) and os.path.isfile(source):
        return None
    if isinstance(source, (str, Path)) and os.path.islink(source):
        return UserError(f'{source} is a link to {os.readlink(source)}, which does not exist.')
    return UserError(
        f'There is no image {str(source)[:200]!r}. Give a file, a folder, a URL, a Pillow '
        'image or an array.'
    )


def _images_in(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yields the images in a folder and its sub-folders, and folders that cannot be opened."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a parent folder
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith('.'):
            continue
        if entry.is_dir():
            yield from _images_in(Path(entry.path), above | {real})
        elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
            yield Path(entry.path)


def is_url(source: object) -> bool:
    """Whether a source is the address of a file."""
    return isinstance(source, str) and '://' in source


def is_video(source: Any) -> bool:
    """Whether a source is a video file or a stream: ``camera:0`` or an address such as rtsp://."""
    text = str(source) if isinstance(source, (str, Path)) else ''
    return text.lower().endswith(VIDEO_EXTENSIONS) or STREAM.fullmatch(text) is not None
