"""The files of a source folder, and how annotation files refer to its images."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from ...errors import UserError
from ...runtime.sources import IMAGE_EXTENSIONS

_SPLITS = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validation': 'val',
    'test': 'test',
    'testing': 'test',
}
_ANNOTATION_FILES = ('.json', '.xml', '.csv', '.txt', '.yaml', '.yml')
#: Names of folders that hold images, where others beside them hold masks.
_IMAGE_FOLDERS = ('images', 'image', 'imgs', 'img', 'jpegimages', 'rgb')


def split_of(path: str) -> str | None:
    """Infers ``train``, ``val`` or ``test`` from the names of folders, else of the file.

    ``valid/a.jpg``, ``images/val2017/a.jpg`` and ``instances_val2017.json`` are ``val``.
    """
    *folders, name = path.split('/')
    for folder in folders:
        if split := _SPLITS.get(re.sub(r'\d{4}$', '', folder.lower())):
            return split
    if name.lower().endswith(IMAGE_EXTENSIONS):
        return None  # 'test 1.jpg' says nothing
    for word in re.split(r'[^a-z]+', name.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def is_image(path: str) -> bool:
    """Whether a file name has the ending of an image."""
    return path.lower().endswith(IMAGE_EXTENSIONS)


def stem(path: str) -> str:
    """File name without folders and ending."""
    return PurePosixPath(path).stem


def parent(path: str) -> str:
    """Folder of a relative path; '' for the root."""
    return path.rpartition('/')[0]


class SourceFolder:
    """Lists a folder once and finds images in it. Hidden files and folders are ignored.

    Args:
        path: A folder, or one annotation file: then its folder is the source and annotation files
            beside it are ignored.

    Attributes:
        root: The folder.
        files: Paths of all files relative to ``root``, sorted.
        images: Those of ``files`` that are images.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        if not path.exists():
            raise UserError(f'The source {path} does not exist. Give a folder or annotation file.')
        if path.suffix.lower() in ('.zip', '.tar', '.gz', '.tgz', '.7z', '.rar'):
            raise UserError(f'The source {path} is an archive. Unpack it and give the folder.')
        if path.is_file() and path.suffix.lower() not in _ANNOTATION_FILES:
            raise UserError(
                f'The source {path} is neither a folder nor an annotation file '
                f'({", ".join(_ANNOTATION_FILES)}).'
            )
        if path.suffix.lower() in ('.yaml', '.yml'):  # YOLO's data.yaml: the labels are beside it
            path = path.parent
        self.root = path if path.is_dir() else path.parent
        self.files = sorted(self._list(path.name if path.is_file() else None))
        self.images = [file for file in self.files if is_image(file)]
        self._known = set(self.files)

    def _list(self, only: str | None) -> list[str]:
        files = []
        for folder, folders, names in os.walk(self.root, followlinks=True):
            folders[:] = sorted(f for f in folders if f[0] != '.' and f != '__MACOSX')
            relative = os.path.relpath(folder, self.root).replace(os.sep, '/')
            prefix = '' if relative == '.' else relative + '/'
            files += [
                prefix + name
                for name in names
                if name[0] != '.' and (only is None or is_image(name) or prefix + name == only)
            ]
        return files

    def __contains__(self, path: str) -> bool:
        return path in self._known

    @cached_property
    def _images_by_stem(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for image in self.images:
            found[stem(image).lower()].append(image)
        return found

    def with_ending(self, *endings: str) -> list[str]:
        """Paths of the files with one of the endings, in lower or upper case."""
        return [file for file in self.files if file.lower().endswith(endings)]

    def read_text(self, path: str) -> str:
        """Text of a file in UTF-8, with or without a byte order mark, else in Latin-1."""
        content = (self.root / path).read_bytes()
        try:
            return content.decode('utf-8-sig')
        except UnicodeDecodeError:
            return content.decode('latin-1')

    def read_json(self, path: str) -> Any:
        """Content of a JSON file.

        Raises:
            UserError: If it is not valid JSON.
        """
        try:
            return json.loads(self.read_text(path))
        except json.JSONDecodeError as error:
            raise UserError(f'{self.root / path} is not valid JSON: {error}.') from error

    def read_xml(self, path: str) -> ElementTree.Element:
        """Root element of an XML file.

        Raises:
            UserError: If it is not valid XML.
        """
        try:
            return ElementTree.parse(self.root / path).getroot()
        except ElementTree.ParseError as error:
            raise UserError(f'{self.root / path} is not valid XML: {error}.') from error

    def find_image(self, name: str, near: str = '') -> str | None:
        """Finds the image that an annotation file names.

        The name may be absolute, from another computer, nested, relative to any folder of the
        source or without an ending. Of several images with the same name, the one that shares the
        most folders with the name counts, then the one of the same split, the one in a folder for
        images rather than masks, and the one that is nearest to the annotation file.

        Args:
            name: As the annotation file writes it.
            near: Path of the annotation file, relative to the source. Default: ''.

        Returns:
            Path relative to the source; None if there is no such image or several fit equally.
        """
        wanted = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
        if not wanted:
            return None
        if (direct := '/'.join(wanted)) in self._known and is_image(direct):
            return direct
        last = wanted[-1]
        candidates = self._images_by_stem.get((stem(last) if is_image(last) else last).lower(), [])
        named = [c for c in candidates if c.rpartition('/')[2] == last] or [
            c for c in candidates if c.rpartition('/')[2].lower() == last.lower()
        ]
        candidates = named or ([] if is_image(last) else candidates)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        scored = sorted((_closeness(c, wanted, near), c) for c in candidates)
        return None if scored[-1][0] == scored[-2][0] else scored[-1][1]


def _closeness(candidate: str, wanted: list[str], near: str) -> tuple[int, bool, bool, int, int]:
    """Orders images of the same name; the largest is the best."""
    parts = candidate.split('/')
    shared = 0
    for own, other in zip(reversed(parts[:-1]), reversed(wanted[:-1]), strict=False):
        if own != other:
            break
        shared += 1
    split = split_of(near)
    folders = near.split('/')[:-1]
    common = sum(own == other for own, other in zip(parts[:-1], folders, strict=False))
    same_split = split is not None and split_of(candidate) == split
    for_images = any(part.lower() in _IMAGE_FOLDERS for part in parts[:-1])
    return shared, same_split, for_images, common, -len(parts)
