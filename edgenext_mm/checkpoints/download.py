"""Files from the network: several sources, resumed, checked, cached, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm import tqdm

from ..errors import UserError

#: What is kept between runs, downloads among it; default ``~/.cache/edgenext_mm``.
CACHE = 'EDGENEXT_MM_CACHE'
#: A URL or folder that is asked for files before their own sources, for sites without internet.
MIRROR = 'EDGENEXT_MM_MIRROR'
#: How often a transfer that breaks off is taken up again.
ATTEMPTS = 4
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 18


class _RefusedError(Exception):
    """Why a source did not deliver."""


class _BrokenOffError(Exception):
    """How far a transfer came; it may be taken up again."""


def cache_folder() -> Path:
    """The folder of downloaded checkpoints."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(os.environ.get(CACHE) or Path(home, 'edgenext_mm'), 'checkpoints')


def fetch(sources: Sequence[str], sha256: str | None = None) -> Path:
    """The path of a file, downloaded unless it is in the cache.

    Sources are tried in order, after the mirror that the environment names. A transfer that was
    cut off goes on where it stopped, also in a later run. Processes that want the same file wait
    for the first of them.

    Args:
        sources: URLs (``http``, ``https``) or paths.
        sha256: The start of the file's hash, where it is known. Default: what the name of each
            source ends with, where it ends as OpenMMLab's files do (``-1a2b3c4d.pth``).

    Raises:
        UserError: If no source delivers; names each of them and why.
    """
    target = cache_folder() / _place(sources[0])
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f'.{target.name}.lock')):
            if not target.is_file():
                _fetch([*_in_mirror(sources), *sources], target, sha256)
    except OSError as error:
        raise UserError(
            f'{target} cannot be kept: {error}. {CACHE} names another folder.'
        ) from error
    return target


def _place(source: str) -> Path:
    """Where in the cache a file goes: files of one name from two addresses are two files."""
    url = urlsplit(source)
    parts = [part for part in url.path.split('/') if part not in ('', '.', '..')]
    return Path(url.netloc.replace(':', '_'), *parts)


def _in_mirror(sources: Sequence[str]) -> list[str]:
    mirror = os.environ.get(MIRROR)
    return [f'{mirror.rstrip("/")}/{_place(source).name}' for source in sources] if mirror else []


def _fetch(sources: list[str], target: Path, sha256: str | None) -> None:
    reasons = []
    for source in sources:
        part = target.with_name(f'.{target.name}.{_digest(source.encode())[:8]}.part')
        try:
            if '://' in source:
                _download(source, part)
            else:
                shutil.copyfile(source, part)
            _check(part, sha256 or _hash_in(source))
        except (_RefusedError, FileNotFoundError) as error:
            reasons.append(f'{source}: {error}')
            continue
        part.replace(target)
        return
    raise UserError(
        f'No source of {target.name} delivered it. Tried: {"; ".join(reasons)}. Without internet, '
        f'set {MIRROR} to a folder or URL that has one of these files.'
    )


def _download(url: str, part: Path) -> None:
    """Appends to ``part`` what it lacks.

    Raises:
        _RefusedError: If the source does not deliver, whatever the reason.
        OSError: If ``part`` cannot be written.
    """
    for attempt in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        last = attempt == ATTEMPTS - 1
        try:
            _transfer(url, part, have)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # complete already, or longer than the file is now
                total = (error.headers.get('Content-Range') or '').rpartition('/')[2]
                if total == str(have):
                    return
                part.unlink()
            elif error.code < 500 or last:
                raise _RefusedError(f'HTTP {error.code} {error.reason}') from error
        except _BrokenOffError as error:
            if last:
                raise _RefusedError(f'broken off {ATTEMPTS} times ({error})') from error
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            # No connection, no HTTP, or no URL: another attempt would end alike.
            raise _RefusedError(str(error) or type(error).__name__) from error


def _transfer(url: str, part: Path, have: int) -> None:
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    with _open(request) as response:
        resumed = have > 0 and response.status == 206
        if response.headers.get('Content-Encoding', 'identity') != 'identity':
            raise _RefusedError('it sent the file compressed, which nobody asked for')
        length = response.headers.get('Content-Length')
        total = int(length) + have * resumed if length else None
        with (
            part.open('ab' if resumed else 'wb') as file,
            tqdm(
                desc=url.rpartition('/')[2],
                total=total,
                initial=have * resumed,
                unit='B',
                unit_scale=True,
            ) as progress,
        ):
            for piece in _read(response):
                file.write(piece)
                progress.update(len(piece))
    if total is not None and part.stat().st_size < total:
        raise _BrokenOffError(f'{part.stat().st_size} of {total} bytes')


def _open(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except (ConnectionError, TimeoutError, http.client.RemoteDisconnected) as error:
        raise _BrokenOffError(str(error)) from error


def _read(response: Any) -> Iterator[bytes]:
    """The content piece by piece; all that came before a break is kept, to go on from there."""
    while True:
        try:
            piece = response.read(CHUNK)
        except http.client.IncompleteRead as error:  # of a transfer in chunks
            yield error.partial
            raise _BrokenOffError('it ended within the file') from error
        except (OSError, http.client.HTTPException) as error:  # of the connection, TLS among it
            raise _BrokenOffError(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


def _check(part: Path, sha256: str | None) -> None:
    hashed = hashlib.sha256()
    with part.open('rb') as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
        file.seek(0)
        start = file.read(64).lstrip()
    digest = hashed.hexdigest()
    if sha256 and not digest.startswith(sha256):
        part.unlink()
        raise _RefusedError(f'its hash starts with {digest[: len(sha256)]}, not {sha256}')
    if start.startswith(b'PK') and not zipfile.is_zipfile(part):  # its directory is at the end
        part.unlink()
        raise _RefusedError('the file breaks off')
    if start.startswith(b'<') or not start:
        part.unlink()
        raise _RefusedError('it sent a web page' if start else 'it sent nothing')


def _hash_in(source: str) -> str | None:
    found = re.search(r'-([0-9a-f]{8})\.\w+$', source)
    return found[1] if found else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
