import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from edgenext_mm.apis.images import list_images, read_image
from edgenext_mm.errors import UserError

GRADIENT = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5  # red-green-blue


@pytest.fixture
def server(tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{http.server_port}'
        http.shutdown()


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_colour_files_are_read_as_blue_green_red(tmp_path):
    image = read_image(save(tmp_path / 'a.png', GRADIENT))
    np.testing.assert_array_equal(image, GRADIENT[..., ::-1])
    assert image.flags.c_contiguous


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', 'CMYK', '1', 'YCbCr'])
def test_other_modes_are_read_as_pillow_converts_them(tmp_path, mode):
    source = Image.fromarray(GRADIENT).convert(mode)
    path = tmp_path / ('a.jpg' if mode in ('CMYK', 'YCbCr') else 'a.png')
    source.save(path)
    expected = np.asarray(Image.open(path).convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_sixteen_bits_keep_their_upper_half(tmp_path, suffix):
    deep = (np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096) + 200
    image = read_image(save(tmp_path / f'a.{suffix}', deep))
    np.testing.assert_array_equal(image, np.repeat((deep >> 8)[..., None], 3, axis=2))
    assert image.max() == 240


@pytest.mark.parametrize(('orientation', 'turns'), [(1, 0), (6, 3), (3, 2), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = GRADIENT[:2]
    image = read_image(save(tmp_path / 'a.png', wide, exif=exif))
    np.testing.assert_array_equal(image, np.rot90(wide, turns)[..., ::-1])


def test_urls_are_read(tmp_path, server):
    save(tmp_path / 'a.png', GRADIENT)
    np.testing.assert_array_equal(read_image(f'{server}/a.png'), GRADIENT[..., ::-1])


def test_a_url_that_is_not_there_is_an_error(server):
    with pytest.raises(UserError, match=r'/none\.png cannot be read'):
        read_image(f'{server}/none.png')


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (GRADIENT, GRADIENT),
        (GRADIENT[..., 0], np.repeat(GRADIENT[..., :1], 3, axis=2)),
        (GRADIENT[..., :1], np.repeat(GRADIENT[..., :1], 3, axis=2)),
        (np.dstack([GRADIENT, GRADIENT[..., 0]]), GRADIENT),
        (GRADIENT.astype(np.uint16) * 256 + 7, GRADIENT),
    ],
    ids=['colour', 'grey', 'one-channel', 'alpha', 'sixteen-bit'],
)
def test_arrays_keep_their_channel_order(array, expected):
    np.testing.assert_array_equal(read_image(array), expected)


@pytest.mark.parametrize(
    'array',
    [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_unfit_arrays_are_refused(array):
    with pytest.raises(UserError, match=r'of uint8 or uint16, got \('):
        read_image(array)


def test_empty_pillow_images_are_refused():
    with pytest.raises(UserError, match=r'got \(0, 4, 3\)'):
        read_image(Image.new('RGB', (4, 0)))


def test_pillow_images_are_read():
    image = read_image(Image.fromarray(GRADIENT))
    np.testing.assert_array_equal(image, GRADIENT[..., ::-1])


def test_a_truncated_file_is_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / 'a.jpg', noise)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r'a\.jpg .*cut short.*Give a complete PNG, JPEG'):
        read_image(path)


def test_a_file_that_is_no_image_is_an_error(tmp_path):
    path = tmp_path / 'a.png'
    path.write_text('not an image')
    with pytest.raises(UserError, match=r'a\.png is no image that Pillow can read'):
        read_image(path)


def test_a_header_that_promises_too_much_is_an_error(tmp_path):
    (tmp_path / 'a.pgm').write_bytes(b'P5 20000 20000 255\n')
    with pytest.raises(UserError, match=r'a\.pgm is too large: .*400000000.*MAX_IMAGE_PIXELS'):
        read_image(tmp_path / 'a.pgm')


def test_a_file_that_is_a_program_is_not_run(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / 'a.eps')
    with pytest.raises(UserError, match=r'a\.eps is no image that Pillow can read'):
        read_image(tmp_path / 'a.eps')


def test_folders_are_searched_in_order_with_their_subfolders(tmp_path):
    for name in ('b.png', 'a.JPG', 'sub/c.png', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    names = [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)]
    assert names == ['a.JPG', 'b.png', 'sub/c.png']


def test_lists_may_mix_sources(tmp_path):
    path = save(tmp_path / 'a.png', GRADIENT)
    assert list_images([path, GRADIENT, 'http://host/x.png']) == [
        path,
        GRADIENT,
        'http://host/x.png',
    ]


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('none.png', 'There is no image'),
        ('a' * 5000, 'There is no image'),
        (b'abc', 'There is no image'),
        (None, 'There is no image'),
        ([7], "There is no image '7'"),
        ('.', 'holds no image'),
        ([], 'No image was given'),
    ],
)
def test_nothing_to_read_is_an_error(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        list_images(source)
