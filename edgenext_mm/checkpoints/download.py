"""Downloads files from several sources into a cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
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


def cache_folder(name: str = 'checkpoints') -> Path:
    """Returns a folder in the cache. Default: that of downloaded checkpoints."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(os.environ.get(CACHE) or Path(home, 'edgenext_mm'), name)


def fetch(sources: Sequence[str], sha256: str | None = None) -> Path:
    """Returns the path of a file, and downloads the file if it is not in the cache.

    Sources are tried in order, after the mirror in the environment. Processes that need the same
    file at the same time wait for the first of them.

    Args:
        sources: URLs (``http``, ``https``) or paths of the same file.
        sha256: Beginning of the SHA-256 hash of the file. Default: the hash at the end of the name
            of each source, as in OpenMMLab's files (``-1a2b3c4d.pth``), if there is one.

    Raises:
        UserError: If all sources fail; the message has the reason for each.
    """
    target = cache_folder() / _cache_path(sources[0])
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f'.{target.name}.lock')):
            if not target.is_file():
                remove_leftovers(target.parent, target.name)
                _fetch_first([*_mirrored(sources), *sources], target, sha256)
    except OSError as error:
        raise UserError(
            f'{target} cannot be written: {error}. Set {CACHE} to another folder.'
        ) from error
    return target


def _cache_path(source: str) -> Path:
    """Returns a path with host and folders, so that equal names of two sources do not collide."""
    url = urlsplit(source)
    parts = [part for part in url.path.split('/') if part not in ('', '.', '..')]
    return Path(url.netloc.replace(':', '_'), *parts)


def _mirrored(sources: Sequence[str]) -> list[str]:
    mirror = os.environ.get(MIRROR)
    return [f'{mirror.rstrip("/")}/{_cache_path(s).name}' for s in sources] if mirror else []


def _fetch_first(sources: list[str], target: Path, sha256: str | None) -> None:
    reasons = []
    for source in sources:
        try:
            with replacing(target) as path:
                if '://' in source:
                    _download(source, path)
                else:
                    shutil.copyfile(source, path)
                _check(path, sha256 or _hash_in_name(source))
            return
        # URLError, timeouts and broken connections are OSErrors; ValueError comes from wrong URLs.
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f'{source}: {str(error).strip() or type(error).__name__}')
    raise UserError(
        f'{target.name} could not be downloaded to {target.parent}. Tried: {"; ".join(reasons)}. '
        f'Without internet access, set {MIRROR} to a folder or URL with one of these files.'
    )


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        total = int(response.headers.get('Content-Length') or 0)
        name = url.rpartition('/')[2]
        with (
            path.open('wb') as file,
            tqdm.wrapattr(file, 'write', total or None, desc=name) as writer,
        ):
            shutil.copyfileobj(response, writer)
    if path.stat().st_size < total:
        raise OSError(f'the transfer stopped after {path.stat().st_size} of {total} bytes')


def _check(path: Path, sha256: str | None) -> None:
    content = path.read_bytes()
    digest, start = hashlib.sha256(content).hexdigest(), content[:64].lstrip()
    if sha256 and not digest.startswith(sha256):
        raise ValueError(f'its hash starts with {digest[: len(sha256)]}, not {sha256}')
    if not start or start.startswith(b'<'):
        raise ValueError('it sent a web page' if start else 'it sent an empty file')
    if start.startswith(b'PK') and not zipfile.is_zipfile(path):  # the end is missing
        raise ValueError('it sent an incomplete file')


def _hash_in_name(source: str) -> str | None:
    found = re.search(r'-([0-9a-f]{8})\.\w+$', source)
    return found[1] if found else None
