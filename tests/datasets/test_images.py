import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import DATASETS, init_default_scope
from paths import ROOT
from PIL import Image

from edgenext_mm.config import load_config
from edgenext_mm.datasets.images import ImageReader, read_image
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.sources import IMAGE_EXTENSIONS, list_images

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


@pytest.mark.parametrize('mode', ['RGB', 'L', 'LA', 'P', 'RGBA', '1'])
def test_files_are_read_in_colour(tmp_path, mode):
    path = tmp_path / 'a.png'
    Image.fromarray(GRADIENT).convert(mode).save(path)
    expected = np.asarray(Image.open(path).convert('RGB'))[..., ::-1]
    image = read_image(path)
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous


def test_sixteen_bits_keep_their_upper_half(tmp_path):
    deep = (np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096) + 200
    image = read_image(save(tmp_path / 'a.png', deep))
    np.testing.assert_array_equal(image, np.repeat((deep >> 8)[..., None], 3, axis=2))
    assert image.max() == 240


@pytest.mark.parametrize(('orientation', 'turns'), [(1, 0), (6, 3), (3, 2), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = GRADIENT[:2]
    image = read_image(save(tmp_path / 'a.png', wide, exif=exif))
    np.testing.assert_array_equal(image, np.rot90(wide, turns)[..., ::-1])


COLOUR_TYPES = ('color', 'grayscale', 'unchanged', 'color_ignore_orientation')


@pytest.mark.parametrize('color_type', COLOUR_TYPES)
@pytest.mark.parametrize('decoder', ['cv2', 'pillow'])
@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'])
def test_images_in_memory_get_the_pixels_of_a_lossless_file(tmp_path, mode, decoder, color_type):
    noise = np.random.default_rng(0).integers(0, 65536, (9, 13, 4), np.uint16)
    image = Image.fromarray((noise >> 8).astype(np.uint8))  # transparent
    image = Image.fromarray(noise[..., 0]) if mode == 'I;16' else image
    image = image.convert('RGB').convert('P') if mode == 'P' else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.png', exif=exif)
    image.save(tmp_path / 'b.png')
    reader = ImageReader(LoadImageFromFile(imdecode_backend=decoder, color_type=color_type))
    sources = {'a.png': [Image.open(tmp_path / 'a.png')], 'b.png': [image]}
    if mode in ('L', 'RGB', 'RGBA', 'I;16'):
        array = np.asarray(image)
        array = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
        sources['b.png'].append(array)
    # libpng and OpenCV round grey differently.
    tolerance = 1 if decoder == 'cv2' and color_type == 'grayscale' else 0
    for name, images in sources.items():
        expected = reader(tmp_path / name)['img']
        for source in images:
            pixels = reader(source)['img']
            assert (pixels.shape, pixels.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(pixels.astype(int), expected, 0, tolerance)


def test_urls_are_read(tmp_path, server):
    save(tmp_path / 'a.png', GRADIENT)
    np.testing.assert_array_equal(read_image(f'{server}/a.png'), GRADIENT[..., ::-1])


def test_a_url_that_is_not_there_is_an_error(server):
    with pytest.raises(UserError, match=r'/none\.png cannot be read'):
        read_image(f'{server}/none.png')


def test_arrays_of_other_kinds_keep_their_channel_order():
    colour = np.repeat(GRADIENT[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read_image(GRADIENT[..., :1]), colour)
    np.testing.assert_array_equal(read_image(GRADIENT.astype('>u2') * 256 + 7), GRADIENT)


@pytest.mark.parametrize('shape', [(4, 4), (4, 4, 6)])
def test_floats_are_read_unchanged(tmp_path, shape):
    floats = np.random.default_rng(0).normal(0, 900, shape).astype(np.float32)
    tifffile.imwrite(tmp_path / 'a.tif', floats)
    reader = ImageReader(LoadImageFromFile(imdecode_backend='tifffile'))
    for source in (tmp_path / 'a.tif', floats):
        np.testing.assert_array_equal(reader(source)['img'], floats)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((4, 4, 2), np.uint8), r'of uint8 or uint16, got \(4, 4, 2\)'),
        (np.zeros((4, 4, 3)), r'of uint8 or uint16, got \(4, 4, 3\) of float64'),
        (np.zeros((0, 4, 3), np.uint8), r'of numbers, got \(0, 4, 3\)'),
        (np.zeros((4, 4), bool), 'of numbers, got .* of bool'),
        (Image.new('RGB', (4, 0)), r'of numbers, got \(0, 4, 3\)'),
    ],
)
def test_unfit_images_in_memory_are_refused(array, message):
    with pytest.raises(UserError, match=message):
        read_image(array)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('cut.jpg', lambda jpeg: jpeg[:600], 'is cut short'),
        ('empty.jpg', lambda _: b'', 'is empty'),
        ('text.jpg', lambda _: b'not an image', 'is not an image that the loading step .*Give a'),
        ('._a.jpg', lambda _: b'\0\5\x16\7\0\2\0\0Mac OS X' + bytes(99), 'is not an image'),
    ],
)
def test_broken_files_are_errors_that_name_them(tmp_path, backend, name, content, message):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    jpeg = save(tmp_path / 'whole.jpg', noise).read_bytes()
    (tmp_path / name).write_bytes(content(jpeg))
    with pytest.raises(UserError, match=rf'{name} {message}'):
        ImageReader(LoadImageFromFile(imdecode_backend=backend))(tmp_path / name)


def test_what_another_decoder_reads_is_said(tmp_path):
    save(tmp_path / 'a.gif', GRADIENT[..., 0])
    reader = ImageReader(LoadImageFromFile(imdecode_backend='tifffile'))
    with pytest.raises(UserError, match=r"tifffile.*Pillow reads it as GIF.*='pillow'"):
        reader(tmp_path / 'a.gif')


def test_a_header_that_promises_too_much_is_an_error(tmp_path):
    (tmp_path / 'a.pgm').write_bytes(b'P5 20000 20000 255\n')
    with pytest.raises(UserError, match=r'a\.pgm is too large: .*400000000.*MAX_IMAGE_PIXELS'):
        read_image(tmp_path / 'a.pgm')


def test_a_file_that_is_a_program_is_not_run(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / 'a.eps')
    for backend in ('cv2', 'pillow'):
        with pytest.raises(UserError, match=r'a\.eps is a program'):
            ImageReader(LoadImageFromFile(imdecode_backend=backend))(tmp_path / 'a.eps')


def test_folders_are_searched_in_order_with_their_subfolders(tmp_path):
    names = (
        *('b.png', 'a.JPG', 'sub/c.png', 'birds-v1.0/d.tiff', 'folder.jpg/e.webp'),
        *('notes.txt', '._a.JPG', '.hidden.png', '.ipynb_checkpoints/b.png', 'x.png.txt', 'png'),
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'linked').symlink_to(tmp_path / 'sub')
    (tmp_path / 'sub' / 'up').symlink_to(tmp_path)
    (tmp_path / 'broken.png').symlink_to(tmp_path / 'none.png')
    found = [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)]
    assert found == [
        *('a.JPG', 'b.png', 'birds-v1.0/d.tiff', 'broken.png', 'folder.jpg/e.webp'),
        *('linked/c.png', 'sub/c.png'),
    ]


def test_one_bad_source_costs_the_others_nothing(tmp_path):
    good = save(tmp_path / 'a.png', GRADIENT)
    (tmp_path / 'empty').mkdir()
    sources = [good, 'none.png', tmp_path / 'empty', 7, tmp_path]
    images = list_images(sources)
    assert images == [good, Path('none.png'), tmp_path / 'empty', 7, good]
    for image in images[1:4]:
        with pytest.raises(UserError, match=r'There is no image|contains no image'):
            read_image(image)


def test_a_broken_link_is_an_error_that_says_where_it_leads(tmp_path):
    (tmp_path / 'a.png').symlink_to(tmp_path / 'gone.png')
    with pytest.raises(UserError, match=r'a\.png is a link to .*gone\.png, which does not exist'):
        read_image(tmp_path / 'a.png')


def test_inference_reads_the_endings_that_the_folder_configs_train_on():
    config = load_config(ROOT / 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py')
    init_default_scope('mmpretrain')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        named = dict(metainfo=dict(classes=('a',)), lazy_init=True, pipeline=[])
        assert sorted(DATASETS.build({**loader.dataset, **named}).extensions) == sorted(
            IMAGE_EXTENSIONS
        )


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
        ('.', 'contains no image'),
        ([], 'No image was given'),
    ],
)
def test_nothing_to_read_is_an_error(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        list_images(source)
