"""Downloads files from several sources into a cache, checks them and continues broken transfers."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm import tqdm

from ..errors import UserError
from ..files import remove_leftovers, replacing

#: Environment variable: the folder of the cache. Default: ``~/.cache/edgenext_mm``.
CACHE = 'EDGENEXT_MM_CACHE'
#: Environment variable: a folder or URL that is tried before the sources of a file.
MIRROR = 'EDGENEXT_MM_MIRROR'
#: Seconds without data after which a transfer fails.
TIMEOUT = 30
#: Requests for one file, if each brings a part of it.
MAX_REQUESTS = 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Source:
    """Where a file is, and what is known about its content.

    Args:
        url: URL (``http``, ``https``) or path.
        sha256: SHA-256 hash of the file, or its beginning. Default: the hash at the end of the
            name, as in OpenMMLab's files (``-1a2b3c4d.pth``), if there is one.
        size: Size in millions of bytes, rounded as its host prints it, such as ``'22.4 MB'``.
            Default: unknown.
    """

    url: str
    sha256: str | None = None
    size: str | None = None

    @property
    def name(self) -> str:
        """Name of the file in a mirror: files of the Hugging Face Hub get that of the model."""
        *folders, name = urlsplit(self.url).path.split('/')
        if 'resolve' in folders:
            name = folders[folders.index('resolve') - 1] + Path(name).suffix
        return name

    @property
    def expected_hash(self) -> str | None:
        """Beginning of the SHA-256 hash, or None if it is unknown."""
        found = re.search(r'-([0-9a-f]{8})\.\w+$', self.url)
        return self.sha256 or (found[1] if found else None)

    def check_size(self, num_bytes: int) -> None:
        """Compares a number of bytes with the rounded size.

        Raises:
            ValueError: If they differ.
        """
        if self.size is None:
            return
        decimals = len(self.size.partition(' ')[0].partition('.')[2])
        size = f'{num_bytes / 1e6:.{decimals}f} MB'
        if size != self.size:
            raise ValueError(f'its size is {size}, not {self.size}')


def cache_folder(name: str = 'checkpoints') -> Path:
    """Returns a folder in the cache. Default: that of downloaded checkpoints."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(os.environ.get(CACHE) or Path(home, 'edgenext_mm'), name)


def fetch(sources: Sequence[str | Source], sha256: str | None = None) -> Path:
    """Returns the path of a file, and downloads the file if it is not in the cache.

    Sources are tried in order, after the mirror in the environment. A transfer that breaks off is
    continued, also by a later call, if the server can send the rest of the same file. Processes
    that need the same file at the same time wait for the first of them.

    Args:
        sources: URLs (``http``, ``https``) or paths of the same file, or of files with the same
            weights, which may have other endings.
        sha256: Hash for sources that are strings, or its beginning. Default: as for
            :class:`Source`.

    Raises:
        UserError: If all sources fail; the message has the reason for each.
    """
    files = [Source(s, sha256) if isinstance(s, str) else s for s in sources]
    target = cache_folder() / _cache_path(files[0].url)
    # The ending tells the format.
    endings = dict.fromkeys([target.suffix, *(Path(file.name).suffix for file in files)])
    if cached := _first_file(target, endings):
        return cached
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f'.{target.name}.lock')):
            if cached := _first_file(target, endings):
                return cached
            for ending in endings:
                remove_leftovers(target.parent, target.with_suffix(ending).name)
            return _fetch_first([*_mirrored(files), *files], target)
    except OSError as error:
        raise UserError(
            f'{target} cannot be written: {error}. Set {CACHE} to another folder.'
        ) from error


def _first_file(target: Path, endings: Iterable[str]) -> Path | None:
    paths = (target.with_suffix(ending) for ending in endings)
    return next((path for path in paths if path.is_file()), None)


def _cache_path(source: str) -> Path:
    """Returns a path with host and folders, so that equal names of two sources do not collide."""
    url = urlsplit(source)
    parts = [part for part in url.path.split('/') if part not in ('', '.', '..')]
    return Path(url.netloc.replace(':', '_'), *parts)


def _mirrored(sources: Sequence[Source]) -> list[Source]:
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return []
    return [
        Source(f'{mirror.rstrip("/")}/{source.name}', source.expected_hash, source.size)
        for source in sources
    ]


def _fetch_first(sources: list[Source], target: Path) -> Path:
    reasons = []
    for source in sources:
        path = target.with_suffix(Path(source.name).suffix)
        try:
            if '://' in source.url:
                _download(source, path)
            else:
                with replacing(path) as copy:
                    shutil.copyfile(source.url, copy)
                    _check(copy, source)
            return path
        # URLError, timeouts and broken connections are OSErrors; ValueError comes from wrong URLs.
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f'{source.url}: {str(error).strip() or type(error).__name__}')
    raise UserError(
        f'{target.name} could not be downloaded to {target.parent}. Tried: {"; ".join(reasons)}. '
        f'Without internet access, set {MIRROR} to a folder or URL with one of these files.'
    )


def _download(source: Source, target: Path) -> None:
    """Downloads a file. Its beginning is kept while its end is missing and can be asked for."""
    mark = hashlib.sha256(source.url.encode()).hexdigest()[:8]
    part = target.with_name(f'.{target.name}.{mark}.part')
    etag = part.with_suffix('.etag')  # by which the server recognises the file
    for _ in range(MAX_REQUESTS):
        start = part.stat().st_size if part.is_file() and etag.is_file() else 0
        known = etag.read_text() if start else None
        try:
            _transfer(source, part, etag, start)
            break
        except (OSError, HTTPException, ValueError) as error:
            if start and isinstance(error, HTTPError) and error.code == 416:
                etag.unlink()  # the server has another file: start again
                continue
            resumable = etag.is_file() and getattr(error, 'errno', None) not in _DISK_FULL
            if not resumable:
                part.unlink(missing_ok=True)
                etag.unlink(missing_ok=True)
            if not resumable:
                raise
            if part.stat().st_size <= start and etag.read_text() == known:  # no progress
                raise
    try:
        _check(part, source)
        with replacing(target) as path:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        etag.unlink(missing_ok=True)


def _transfer(source: Source, part: Path, etag: Path, start: int) -> None:
    """Writes a file, or what is missing of it.

    Args:
        source: The file.
        part: Path to write to. It has the beginning of the file if ``start`` is positive.
        etag: Path of the ETag of this beginning; removed if the server cannot send parts.
        start: Number of bytes to leave out, if the server can do so.
    """
    request = urllib.request.Request(source.url)
    if start:
        request.add_header('Range', f'bytes={start}-')
        request.add_header('If-Range', etag.read_text())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        headers = response.headers
        if response.status == 206:
            if not headers.get('Content-Range', '').startswith(f'bytes {start}-'):
                raise OSError(f'it sent another part: {headers.get("Content-Range")}')
        else:
            start = 0
            tag = headers.get('ETag', '')
            etag.unlink(missing_ok=True)
            if tag.startswith('"') and headers.get('Accept-Ranges') == 'bytes':
                etag.write_text(tag)
        length = headers.get('Content-Length')
        total = start + int(length) if length else None
        if total is not None:
            source.check_size(total)
        with (
            part.open('ab' if start else 'wb') as file,
            tqdm.wrapattr(file, 'write', total, desc=source.name, initial=start) as writer,
        ):
            shutil.copyfileobj(response, writer)
    if total is not None and part.stat().st_size < total:
        raise OSError(f'the transfer stopped after {part.stat().st_size} of {total} bytes')


def _check(path: Path, source: Source) -> None:
    content = path.read_bytes()
    digest, start = hashlib.sha256(content).hexdigest(), content[:64].lstrip()
    expected = source.expected_hash
    if expected and not digest.startswith(expected):
        raise ValueError(f'its hash starts with {digest[: len(expected)]}, not {expected}')
    if not start or start.startswith(b'<'):
        raise ValueError('it sent a web page' if start else 'it sent an empty file')
    if start.startswith(b'PK') and not zipfile.is_zipfile(path):  # the end is missing
        raise ValueError('it sent an incomplete file')
    source.check_size(len(content))
