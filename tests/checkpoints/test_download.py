"""Downloads from a local server that fails on demand."""

import hashlib
import multiprocessing
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from edgenext_mm.checkpoints import download
from edgenext_mm.checkpoints.download import Source, fetch
from edgenext_mm.errors import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The first folder of a path chooses the behaviour."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.requests.append(self.path)
        kind = self.path.split('/')[1]
        getattr(self, f'send_{kind}', self.send_good)()

    def send_good(self, content=CONTENT, length=None):
        self.send_response(200)
        self.send_header('Content-Length', str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_cut(self):
        self.send_good(CONTENT[:400_000], len(CONTENT))
        self.close_connection = True

    def send_page(self):
        self.send_good(b'<html>log in</html>')

    def send_unknown_length(self, content=CONTENT):
        self.wfile.write(b'HTTP/1.0 200 OK\r\n\r\n' + content)
        self.close_connection = True

    def send_half_zip(self):
        self.send_unknown_length(b'PK\x03\x04' + CONTENT)

    def send_chunked(self, end=b'0\r\n\r\n'):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.wfile.write(b'%x\r\n' % len(CONTENT) + CONTENT + b'\r\n' + end)

    def send_cut_chunk(self):
        self.send_chunked(end=b'ff\r\nabc')
        self.close_connection = True

    def send_part(self, content=CONTENT, etag='"1"', most=300_000):
        """Sends at most 300,000 bytes, of the range if that is of the same file."""
        start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
        if start and self.headers.get('If-Range') != etag:
            start = 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header('ETag', etag)
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(len(content) - start))
        if start:
            rest = f'bytes {start}-{len(content) - 1}/{len(content)}'
            self.send_header('Content-Range', rest)
        self.end_headers()
        self.wfile.write(content[start : start + most])
        self.close_connection = True

    def send_one_part(self):
        """Breaks off once, and is down for some requests."""
        if self.server.is_down and 'Range' in self.headers:
            self.send_error(503)
            return
        self.send_part(self.server.content, self.server.etag)

    def send_weak_part(self):
        self.send_part(etag='W/"1"')

    def send_wrong_part(self):
        if 'Range' not in self.headers:
            self.send_part()
            return
        self.send_response(206)
        self.send_header('Content-Range', f'bytes 0-9/{len(CONTENT)}')
        self.send_header('Content-Length', '10')
        self.end_headers()
        self.wfile.write(CONTENT[:10])

    def send_other_range(self):
        if 'Range' in self.headers:
            self.send_error(416)
            return
        self.send_part(most=300_000 if len(self.server.requests) == 1 else len(CONTENT))

    def send_moved(self):
        self.send_response(302)
        self.send_header('Location', '/good/file.pth')
        self.send_header('Content-Length', '0')
        self.end_headers()

    def send_missing(self):
        self.send_error(404)

    def send_down(self):
        self.send_error(503)

    def send_garbage(self):
        self.wfile.write(b'SSH-2.0-OpenSSH\r\n')
        self.close_connection = True

    def send_hang_up(self):
        self.close_connection = True

    def send_silence(self):
        self.server.released.wait(10)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def running_server():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.released = threading.Event()
    server.handle_error = lambda *args: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running_server):
    running_server.requests = []
    running_server.is_down, running_server.content, running_server.etag = True, CONTENT, '"1"'
    return running_server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / 'cache'


def url(server, kind):
    return f'http://127.0.0.1:{server.server_port}/{kind}/file.pth'


def files(cache):
    return [p.name for p in cache.rglob('*') if p.is_file() and p.suffix != '.lock']


@pytest.mark.parametrize('kind', ['good', 'moved', 'chunked', 'unknown_length'])
def test_a_file_is_downloaded_once(kind, server, cache):
    path = fetch([url(server, kind)], sha256=SHA256[:8])
    assert path.read_bytes() == CONTENT
    assert files(cache) == ['file.pth']
    count = len(server.requests)
    assert fetch([url(server, kind)]) == path
    assert len(server.requests) == count


@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('missing', 'HTTP Error 404'),
        ('down', 'HTTP Error 503'),
        ('page', 'it sent a web page'),
        ('cut', 'the transfer stopped after 400000 of 1000000 bytes'),
        ('cut_chunk', 'IncompleteRead'),
        ('half_zip', 'it sent an incomplete file'),
        ('garbage', 'SSH-2.0'),
        ('hang_up', 'Remote end closed connection'),
        ('silence', 'timed out'),
    ],
)
def test_a_source_that_fails_is_named_and_the_next_one_is_used(
    kind, reason, server, cache, monkeypatch
):
    monkeypatch.setattr(download, 'TIMEOUT', 0.3)
    with pytest.raises(UserError, match=rf'{kind}/file\.pth: .*{reason}.*EDGENEXT_MM_MIRROR'):
        fetch([url(server, kind)])
    assert files(cache) == []
    assert fetch([url(server, kind), url(server, 'good')]).read_bytes() == CONTENT


def test_all_sources_are_named_if_none_works(server):
    sources = ['http://127.0.0.1:9/file.pth', 'htp://nowhere/file.pth', url(server, 'missing')]
    with pytest.raises(UserError) as error:
        fetch(sources)
    assert all(f'{source}: ' in str(error.value) for source in sources)
    assert 'Connection refused' in str(error.value)


@pytest.mark.parametrize('in_name', [True, False])
def test_a_wrong_hash_is_refused(server, cache, in_name):
    source = url(server, 'good')
    source, sha256 = (source, '00000000')
    if in_name:
        source, sha256 = source.replace('file', 'file-00000000'), None
    with pytest.raises(UserError, match=f'its hash starts with {SHA256[:8]}, not 00000000'):
        fetch([source], sha256)
    assert files(cache) == []


def test_a_transfer_that_breaks_off_is_continued(server, cache):
    path = fetch([url(server, 'part')], sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 4  # 300,000 bytes each
    assert files(cache) == ['file.pth']


@pytest.mark.parametrize('changed', [False, True])
def test_the_next_program_continues_it_if_the_file_is_the_same(changed, server, cache):
    with pytest.raises(UserError, match='HTTP Error 503'):
        fetch([url(server, 'one_part')])
    assert sorted(name.rpartition('.')[2] for name in files(cache)) == ['etag', 'part']
    server.is_down = False
    if changed:
        server.content, server.etag = CONTENT[::-1], '"2"'
    assert fetch([url(server, 'one_part')]).read_bytes() == server.content
    # 2 before; then 3 times the missing part, or all 4 parts of the other file.
    assert len(server.requests) == 2 + (4 if changed else 3)
    assert files(cache) == ['file.pth']


def test_a_file_whose_part_is_too_long_is_downloaded_again(server):
    assert fetch([url(server, 'other_range')], SHA256).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_nothing_is_kept_if_the_server_cannot_tell_files_apart(server, cache):
    with pytest.raises(UserError, match='the transfer stopped after 300000 of 1000000 bytes'):
        fetch([url(server, 'weak_part')])
    assert len(server.requests) == 1
    assert files(cache) == []


def test_another_range_than_the_missing_one_is_refused(server):
    with pytest.raises(UserError, match='it sent another part: bytes 0-9/1000000'):
        fetch([url(server, 'wrong_part')])


def test_a_continued_file_with_a_wrong_hash_is_not_kept(server, cache):
    with pytest.raises(UserError, match='its hash starts with'):
        fetch([url(server, 'part')], sha256='00000000')
    assert files(cache) == []


def test_another_size_is_refused_before_the_transfer(server, cache):
    with pytest.raises(UserError, match=r'its size is 1\.0 MB, not 22\.4 MB'):
        fetch([Source(url(server, 'cut'), size='22.4 MB')])
    assert files(cache) == []


def test_a_mirror_folder_is_used_first(server, tmp_path, monkeypatch):
    (tmp_path / 'second.pth').write_bytes(b'from the mirror')
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(tmp_path))
    path = fetch([url(server, 'good'), 'https://example.invalid/a/second.pth'])
    assert path.read_bytes() == b'from the mirror'
    assert server.requests == []


def test_a_mirror_can_be_a_url_that_lacks_a_file(server, monkeypatch):
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', f'http://127.0.0.1:{server.server_port}/missing')
    assert fetch([url(server, 'good')]).read_bytes() == CONTENT
    assert server.requests == ['/missing/file.pth', '/good/file.pth']


def test_files_with_the_same_name_from_two_urls_are_kept_apart(server):
    assert fetch([url(server, 'good')]) != fetch([url(server, 'moved')])


def test_processes_that_need_the_same_file_download_it_once(server):
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=fetch, args=([url(server, 'good')],)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(server.requests) == 1
    assert fetch([url(server, 'good')]).read_bytes() == CONTENT


def test_a_full_disk_is_reported_and_leaves_nothing(server, cache):
    """A limit on the size of files acts like a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(UserError, match=r'file\.pth: .*File too large'):
            fetch([url(server, 'good')])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(cache) == []


def test_a_cache_that_cannot_be_written_is_reported(server, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot be written: .* Set EDGENEXT_MM_CACHE'):
        fetch([url(server, 'good')])
