"""More than 100 broken files, each of which is found; those of rare kinds are loaded rightly."""

import re
import shutil

import cv2
import mmcv
import numpy as np
import pytest
import tifffile
from broken_images import broken, damaged, encode, picture, rare
from mmcv.transforms import LoadImageFromFile
from paths import ROOT
from PIL import Image
from spoiled_data import DETECTION, DIGITS, assert_refused, config_on, found, list_config

from edgenext_mm.datasets.checks.findings import ERRORS, WARNINGS
from edgenext_mm.datasets.checks.image_files import file_problem, format_problems
from edgenext_mm.datasets.checks.inspection import inspect_data
from edgenext_mm.datasets.images import ImageReader
from edgenext_mm.errors import UserError


@pytest.mark.parametrize('num_workers', [0, 2])
def test_every_broken_file_is_found_and_no_other(folder_of_all, num_workers):
    cases = {**broken(), **damaged(), **rare()}
    config = config_on(DIGITS, folder_of_all)
    report = inspect_data(config, ['train'], num_workers=num_workers)['train']
    expected = {(f'{name}.jpg', case.kind) for name, case in cases.items() if case.kind}
    # Files of the same bytes are named as such, too.
    assert {pair for pair in found(report) if pair[1] != 'duplicate_image'} == expected
    assert report.num_images == 40 + len(cases)
    assert report.count('error') == len({**broken(), **damaged()})
    assert len(expected) >= 100


@pytest.mark.parametrize('name', [name for name, case in rare().items() if case.pixels is not None])
def test_images_of_rare_kinds_are_loaded_rightly(name):
    case = rare()[name]
    pixels = mmcv.imfrombytes(case.content)[..., ::-1].astype(int)
    assert pixels.shape == case.pixels.shape
    assert np.abs(pixels - case.pixels).max() <= case.tolerance


def test_a_jpeg_is_complete_with_anything_after_its_end_and_not_without_it():
    jpeg = encode(picture(), 'JPEG')
    assert file_problem(jpeg) is None
    assert file_problem(jpeg + bytes(5000)) is None
    assert file_problem(jpeg[:2] + b'\xff' + jpeg[2:]) is None
    for length in range(3, len(jpeg) - 1, 7):
        assert file_problem(jpeg[:length]).kind == 'truncated'


@pytest.mark.parametrize('compression', [None, 1, 5, 8])  # OpenCV's default for colours: SGILOG
@pytest.mark.parametrize('channels', [1, 3])
def test_floats_are_read_unchanged_or_refused(tmp_path, channels, compression):
    floats = np.random.default_rng(0).random((16, 24, channels), np.float32).squeeze()
    options = [] if compression is None else [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    content = cv2.imencode('.tif', floats, options)[1].tobytes()
    (tmp_path / 'a.tif').write_bytes(content)
    for decoder in ('cv2', 'pillow'):
        assert file_problem(content, decoder, 'color').kind == 'unreadable'
        reader = ImageReader(LoadImageFromFile(imdecode_backend=decoder))
        with pytest.raises(UserError, match=r"a\.tif is a TIFF of floats.*color_type='unchanged'"):
            reader(tmp_path / 'a.tif')
    pixels = ImageReader(LoadImageFromFile(color_type='unchanged'))(tmp_path / 'a.tif')['img']
    np.testing.assert_allclose(pixels, floats, atol=0.02)


def test_only_what_a_loading_step_drops_is_a_warning():
    deep, alpha = rare()['sixteen-bit-grey'].content, rare()['alpha'].content
    for content, kind in ((deep, 'sixteen_bit'), (alpha, 'alpha')):
        assert [p.kind for p in format_problems(content, 'cv2')] == [kind]
        assert list(format_problems(content, 'cv2', 'unchanged')) == []
        assert list(format_problems(content, 'tifffile')) == []


@pytest.mark.parametrize('channels', [1, 6])
def test_tifffile_keeps_all_bits_and_pages(channels, tmp_path):
    values = np.arange(channels * 40 * 50, dtype=np.uint16).reshape(channels, 40, 50) * 5
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric='minisblack')
    content = (tmp_path / 'a.tif').read_bytes()
    assert 'sixteen_bit' in [p.kind for p in format_problems(content, 'cv2')]
    assert list(format_problems(content, 'tifffile')) == []
    reader = ImageReader(LoadImageFromFile(imdecode_backend='tifffile'))
    np.testing.assert_array_equal(reader(tmp_path / 'a.tif')['img'].squeeze(), values.squeeze())


def test_images_of_training_among_those_of_validation(few_digits, tmp_path):
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    image = next((tmp_path / 'train' / '3').iterdir())
    shutil.copy(image, tmp_path / 'val' / '5' / 'leaked.png')
    shutil.copy(image, tmp_path / 'train' / '7' / 'again.png')
    reports = inspect_data(config_on(DIGITS, tmp_path), ['train', 'val', 'test'])
    assert found(reports['train']) == {('again.png', 'duplicate_image')}
    assert found(reports['val']) == {('leaked.png', 'split_overlap')}
    assert found(reports['test']) == found(reports['val'])
    assert reports['train'].num_per_class['7'] == 5


def test_lists_of_labels(few_digits, tmp_path):
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    images = [str(p.relative_to(tmp_path / 'train')) for p in (tmp_path / 'train').rglob('*.png')]
    lines = [f'{path} {path[0]}' for path in sorted(images)]
    lines += [f'{images[0]} {images[0][0]}', '5/none.png 5']
    lines[7], lines[9] = f'{lines[7][:-2]} 10', f'{lines[9][:-2]} -1'
    lines += [f'{images[3]} {9 - int(images[3][0])}']
    report = inspect_data(list_config(tmp_path, lines), ['train'])['train']
    assert found(report) == {
        ('train.txt:8', 'label_range'),
        ('train.txt:10', 'label_range'),
        ('none.png', 'missing_image'),
        ('train.txt:41', 'duplicate_entry'),
        ('train.txt:43', 'label_conflict'),
    }
    lines[4] = lines[4][:-2]
    report = inspect_data(list_config(tmp_path, lines), ['train'])['train']
    assert {('train.txt:5', 'malformed')} < found(report)


@pytest.mark.parametrize('named_by', ['data', 'head'])
def test_labels_beyond_the_classes_are_found_before_training(few_digits, tmp_path, named_by):
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    images = sorted((tmp_path / 'train').rglob('*.png'))
    lines = [f'{p.parent.name}/{p.name} {p.parent.name}' for p in images]
    lines[5] = lines[5][:-1] + '10'
    config = list_config(tmp_path, lines)
    if named_by == 'head':
        del config.train_dataloader.dataset['metainfo']
    message = 'train.txt:6 has the label 10; with 10 classes, labels are 0 to 9'
    assert_refused(config, 'train', message, 'label_range')


def test_images_in_coco_format(scenes):
    images = scenes / 'train' / 'images'
    (images / '0000.png').unlink()
    (images / '0001.png').write_bytes((images / '0001.png').read_bytes()[:2000])
    (images / '0002.png').write_bytes(b'')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(images / '0003.png').resize((128, 96)).save(images / '0003.png', exif=exif)
    Image.open(images / '0004.png').resize((100, 128)).save(images / '0004.png')
    expected = {
        ('0000.png', 'missing_image'), ('0001.png', 'truncated'), ('0002.png', 'empty_file'),
        ('0003.png', 'exif_orientation'), ('0003.png', 'size_mismatch'),
        ('0004.png', 'size_mismatch'),
    }  # fmt: skip
    report = inspect_data(config_on(DETECTION, scenes), ['train'])['train']
    # Boxes reach beyond the smaller images, of course.
    assert {pair for pair in found(report) if pair[1] != 'box_partly_outside'} - {
        (name, 'box_outside') for name in ('0003.png', '0004.png')
    } == expected


def test_every_kind_is_documented_with_its_severity():
    page = (ROOT / 'docs' / 'datasets' / 'checking.md').read_text()
    rows = re.findall(r'^\| `(\w+)` \| (error|warning) \|', page, re.MULTILINE)
    assert dict(rows) == {**dict.fromkeys(ERRORS, 'error'), **dict.fromkeys(WARNINGS, 'warning')}
