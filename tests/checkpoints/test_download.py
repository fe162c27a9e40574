"""Downloads from a server of our own that misbehaves on demand."""

import hashlib
import multiprocessing
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from edgenext_mm.checkpoints.download import fetch
from edgenext_mm.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/good, /cut (breaks off once), /ever-cut, /no-range-cut, /moved, /page, /missing, /down.

    /chunked..., of no stated length; /hang-up, /garbage and /gzip.
    """

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get('Range')))
        kind = self.path.split('/')[1]
        if kind == 'moved':
            self.send_response(302)
            self.send_header('Location', '/good/file.pth')
            self.end_headers()
            return
        if kind in ('missing', 'down'):
            self.send_error(404 if kind == 'missing' else 503)
            return
        if kind in ('hang-up', 'garbage'):
            self.wfile.write(b'' if kind == 'hang-up' else b'SSH-2.0-OpenSSH\r\n')
            self.connection.close()
            return
        body = b'<html>log in</html>' if kind == 'page' else CONTENT
        found = re.match(r'bytes=(\d+)-', self.headers.get('Range') or '')
        start = int(found[1]) if found and kind != 'no-range-cut' else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        first = not any(path == self.path for path, _ in server.requests[:-1])
        if kind.startswith('chunked'):
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            self.send_chunks(body[start:], cut=kind == 'chunked-ever-cut' or 'cut' in kind * first)
            return
        if kind == 'gzip':
            self.send_header('Content-Encoding', 'gzip')
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        if kind == 'ever-cut' or (kind.endswith('cut') and first):
            self.wfile.write(body[start : start + (500_000 if kind == 'ever-cut' else 1_000_000)])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body[start:])

    def send_chunks(self, body, cut):
        """Breaks off within the second chunk."""
        for start in range(0, len(body), 700_000):
            part = body[start : start + 700_000]
            self.wfile.write(b'%x\r\n' % len(part) + part[: 300_000 if cut and start else None])
            if cut and start:
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(b'\r\n')
        self.wfile.write(b'0\r\n\r\n')

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.requests = []
    server.handle_error = lambda *args: None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / 'cache'


def url(server, kind):
    return f'http://127.0.0.1:{server.server_port}/{kind}/file.pth'


def files(cache):
    paths = (p for p in cache.rglob('*') if p.is_file() and not p.name.endswith('.lock'))
    return sorted(p.name for p in paths)


@pytest.mark.parametrize('kind', ['good', 'moved', 'cut', 'no-range-cut', 'chunked', 'chunked-cut'])
def test_a_file_arrives_whole(kind, server, cache):
    path = fetch([url(server, kind)], sha256=SHA256[:8])
    assert path.read_bytes() == CONTENT
    assert files(cache) == ['file.pth']


def test_a_transfer_goes_on_where_it_broke_off(server):
    fetch([url(server, 'cut')])
    (_, first), (_, second) = server.requests
    assert first is None
    assert second == 'bytes=1000000-'


def test_a_transfer_goes_on_in_a_later_run(server, cache):
    with pytest.raises(UserError, match='broken off 4 times'):
        fetch([url(server, 'ever-cut')])
    (part,) = cache.rglob('*.part')
    assert part.stat().st_size == 4 * 500_000
    assert fetch([url(server, 'ever-cut')]).read_bytes() == CONTENT
    assert server.requests[4] == ('/ever-cut/file.pth', 'bytes=2000000-')


def test_what_came_of_a_chunked_transfer_is_kept(server):
    fetch([url(server, 'chunked-cut')])
    (_, first), (_, second) = server.requests
    assert first is None
    assert 700_000 <= int(second.removeprefix('bytes=').removesuffix('-')) <= 1_000_000


def test_a_file_of_no_stated_length_that_breaks_off_is_not_kept(server, cache, monkeypatch):
    """A server of HTTP/1.0 closes the connection at the end, or before it."""
    torch.save(dict(weights=torch.zeros(1000)), cache.parent / 'whole.pth')
    content = (cache.parent / 'whole.pth').read_bytes()

    def send(handler):
        handler.wfile.write(b'HTTP/1.0 200 OK\r\n\r\n' + content[:-50])
        handler.close_connection = True

    monkeypatch.setattr(Handler, 'do_GET', send)
    with pytest.raises(UserError, match='the file breaks off'):
        fetch([url(server, 'good')])
    assert files(cache) == []


def test_the_cache_needs_no_network(server):
    fetch([url(server, 'good')])
    count = len(server.requests)
    assert fetch([url(server, 'good')]).read_bytes() == CONTENT
    assert len(server.requests) == count


def test_the_next_source_serves_where_the_first_does_not(server):
    dead = 'http://127.0.0.1:9/file.pth'
    kinds = ('missing', 'page', 'chunked-ever-cut', 'hang-up', 'garbage', 'gzip', 'good')
    sources = [dead, 'htp://nowhere/file.pth', *(url(server, kind) for kind in kinds)]
    assert fetch(sources).read_bytes() == CONTENT


def test_every_source_is_named_where_none_delivers(server, cache):
    sources = [url(server, 'missing'), url(server, 'down'), url(server, 'page')]
    with pytest.raises(UserError) as error:
        fetch(sources)
    message = str(error.value)
    assert all(source in message for source in sources)
    assert 'HTTP 404' in message
    assert 'HTTP 503' in message
    assert 'web page' in message
    assert 'EDGENEXT_MM_MIRROR' in message
    assert files(cache) == []


def test_another_hash_is_refused_and_leaves_nothing(server, cache):
    with pytest.raises(UserError, match=f'its hash starts with {SHA256[:8]}, not 00000000'):
        fetch([url(server, 'good')], sha256='00000000')
    assert files(cache) == []


def test_a_mirror_is_asked_first(server, tmp_path, monkeypatch):
    (tmp_path / 'mirror').mkdir()
    (tmp_path / 'mirror' / 'file.pth').write_bytes(b'from the mirror')
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(tmp_path / 'mirror'))
    assert fetch([url(server, 'good')]).read_bytes() == b'from the mirror'
    assert server.requests == []


def test_a_mirror_may_be_a_url_and_lack_a_file(server, monkeypatch):
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', f'http://127.0.0.1:{server.server_port}/missing')
    assert fetch([url(server, 'good')]).read_bytes() == CONTENT
    assert server.requests[0][0] == '/missing/file.pth'


def test_a_mirror_may_have_the_file_of_any_source(server, tmp_path, monkeypatch):
    (tmp_path / 'second.pth').write_bytes(b'of the second source')
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(tmp_path))
    path = fetch([url(server, 'missing'), 'https://example.invalid/a/second.pth'])
    assert path.read_bytes() == b'of the second source'
    assert server.requests == []


def test_files_of_one_name_from_two_addresses_are_two_files(server):
    assert fetch([url(server, 'good')]) != fetch([url(server, 'moved')])


def _fetch_in_process(source, queue):
    queue.put(fetch([source]).read_bytes() == CONTENT)


def test_processes_that_want_one_file_download_it_once(server):
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    processes = [
        context.Process(target=_fetch_in_process, args=(url(server, 'good'), queue))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [True, True]
    for process in processes:
        process.join()
    assert len(server.requests) == 1


def test_a_full_disk_is_told_and_keeps_what_was_there(server, cache, monkeypatch):
    """A limit on the size of files stands for the disk."""
    import resource

    earlier = fetch([url(server, 'good')])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(UserError, match=r'cannot be kept: .*EDGENEXT_MM_CACHE'):
            fetch([url(server, 'cut')])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert earlier.read_bytes() == CONTENT
    assert list(cache.rglob('file.pth')) == [earlier]
    assert fetch([url(server, 'cut')]).read_bytes() == CONTENT
