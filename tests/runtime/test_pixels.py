"""Reading and resizing against OpenCV, mmcv and PyTorch."""

import subprocess
import sys

import cv2
import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from edgenext_mm.errors import UserError
from edgenext_mm.runtime import images
from edgenext_mm.runtime.images import read_image, resize, resize_labels, resize_maps
from edgenext_mm.runtime.preprocessing import Preprocessing


@pytest.fixture(scope='module')
def photograph():
    from sklearn.datasets import load_sample_image

    return load_sample_image('china.jpg')[:300, :401]


@pytest.fixture
def without_opencv(monkeypatch):
    monkeypatch.setattr(images, '_opencv', lambda: None)


@pytest.mark.parametrize('size', [(320, 320), (96, 72), (200, 150), (500, 433), (401, 300)])
@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear', 'bicubic'])
def test_opencv_resizes_alike(interpolation, size, photograph, without_opencv):
    expected = mmcv.imresize(photograph, size, interpolation=interpolation, backend='cv2')
    found = resize(photograph, size, interpolation, 'cv2')
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005


def test_half_the_size_is_the_mean_of_four(photograph, without_opencv):
    """OpenCV averages areas there."""
    photograph = photograph[:, :400]
    expected = cv2.resize(photograph, (200, 150), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(photograph, (200, 150), 'bilinear', 'cv2'), expected)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'lanczos'])
def test_pillow_resizes_alike(interpolation, photograph):
    expected = mmcv.imresize(photograph, (99, 77), interpolation=interpolation, backend='pillow')
    found = resize(photograph, (99, 77), interpolation, 'pillow')
    np.testing.assert_array_equal(found, expected)


def test_an_interpolation_of_opencv_alone_is_named(photograph, without_opencv):
    with pytest.raises(UserError, match=r"'area' of OpenCV.*pip install opencv-python-headless"):
        resize(photograph, (9, 9), 'area', 'cv2')


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('shape', [(64, 80), (5, 7), (16, 20), (1, 1)])
def test_pytorch_resizes_maps_alike(shape, align_corners):
    maps = torch.randn(3, 16, 20)
    expected = F.interpolate(maps[None], size=shape, mode='bilinear', align_corners=align_corners)[
        0
    ]
    found = resize_maps(maps.numpy(), shape, align_corners)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_labels_keep_their_places():
    labels = np.arange(6).reshape(2, 3)
    expected = [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert resize_labels(labels, (4, 6)).tolist() == expected
    assert resize_labels(labels, (2, 3)).tolist() == labels.tolist()


def rotated_jpeg(photograph, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph).save(path, exif=exif, quality=90)


def test_files_are_read_as_by_mmcv(photograph, tmp_path):
    Image.fromarray(photograph).save(tmp_path / 'a.jpg', quality=90)
    rotated_jpeg(photograph, tmp_path / 'b.jpg')
    Image.fromarray(photograph[..., 0]).save(tmp_path / 'c.png')
    rgba = np.dstack([photograph, photograph[..., :1]])
    Image.fromarray(rgba).save(tmp_path / 'd.png')
    Image.fromarray(photograph).quantize(16).save(tmp_path / 'e.png')
    deep = photograph[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / 'f.png')
    for path in sorted(tmp_path.iterdir()):
        expected = mmcv.imread(path)[..., ::-1]
        np.testing.assert_array_equal(read_image(path).array, expected, err_msg=path.name)


def test_pixels_of_more_than_16_bits_are_refused(photograph, tmp_path):
    Image.fromarray(photograph[..., 0].astype(np.float32)).save(tmp_path / 'a.tif')
    Image.fromarray(photograph[..., 0].astype(np.int32) * 70_000).save(tmp_path / 'b.tif')
    for name, kind in (('a.tif', 'float32'), ('b.tif', 'int32')):
        with pytest.raises(UserError, match=f'{name} has pixels of {kind}'):
            read_image(tmp_path / name)


def test_images_in_memory(photograph):
    for source in (photograph[..., ::-1], Image.fromarray(photograph)):
        np.testing.assert_array_equal(read_image(source).array, photograph)
    grey = read_image(photograph[..., ::-1], grey=True).array
    expected = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    assert grey.shape == (300, 401, 1)
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('none.jpg', "no image 'none.jpg'"),
        (np.zeros((4, 4, 5), np.uint8), r'got \(4, 4, 5\) of uint8'),
        (np.zeros((4, 4, 3)), 'of float64'),
    ],
)
def test_what_is_no_image_is_named(source, message):
    with pytest.raises(UserError, match=message):
        read_image(source)


def test_a_truncated_file_is_named(photograph, tmp_path):
    path = tmp_path / 'a.jpg'
    Image.fromarray(photograph).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r'a\.jpg is not an image that Pillow can read'):
        read_image(path)


@pytest.mark.parametrize('rotated', [False, True])
def test_reduced_jpeg_files_have_the_pixels_of_the_photograph(photograph, tmp_path, rotated):
    """They are nearer to its mean over areas than bilinear samples of the full size are."""
    path, large = tmp_path / 'a.jpg', photograph[:296, :400].repeat(3, 0).repeat(3, 1)  # 1200x888
    rotated_jpeg(large, path) if rotated else Image.fromarray(large).save(path, quality=95)
    steps = [dict(type='ResizeEdge', scale=110)]
    description = dict(
        loading=[], steps=steps, mean=[0] * 3, std=[1] * 3, channel_order='RGB', pad_value=0
    )
    full, reduced = (Preprocessing(description, flag)(path) for flag in (False, True))
    assert reduced.original_size == full.original_size
    assert reduced.scale_factor == full.scale_factor
    assert reduced.pixels.shape == full.pixels.shape
    upright = mmcv.imread(path)[..., ::-1]
    means = cv2.resize(upright, full.pixels.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    errors = [np.abs(found.pixels - means).mean() for found in (reduced, full)]
    assert errors[0] < 0.5 * errors[1]


def test_small_jpeg_files_are_not_reduced(photograph, tmp_path):
    Image.fromarray(photograph).save(path := tmp_path / 'a.jpg')  # 401x300
    found = read_image(path, needed=lambda width, height: (width // 2 + 1, height // 2 + 1))
    np.testing.assert_array_equal(found.array, read_image(path).array)


def test_threads_can_import_opencv_at_the_same_time():
    """In a new process, as the readers of Model.stream do."""
    code = (
        'import threading, numpy as np\n'
        'from concurrent.futures import ThreadPoolExecutor\n'
        'from edgenext_mm.runtime.images import resize\n'
        'start = threading.Barrier(4)\n'
        'def run(i):\n'
        '    start.wait()\n'
        "    return resize(np.zeros((8, 8, 3), np.uint8), (4, 4), 'bilinear', 'cv2').shape\n"
        'print(set(ThreadPoolExecutor(4).map(run, range(4))))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '{(4, 4, 3)}'
