"""More than 100 broken files, each of which is found; those of rare kinds are loaded rightly."""

import json
import re
import shutil

import mmcv
import numpy as np
import pytest
from broken_images import broken, damaged, encode, picture, rare
from paths import DIGITS_CONFIG, ROOT
from PIL import Image

from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.findings import ERRORS, WARNINGS
from edgenext_mm.datasets.checks.image_files import file_problem
from edgenext_mm.datasets.checks.inspection import inspect_data

DIGITS = '0123456789'
DETECTION = 'detection/ssdlite_edgenext-xxsmall_digits.py'
SEGMENTATION = 'segmentation/deeplabv3_edgenext-xxsmall_digits.py'
ROTATED = 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py'


def config_on(path, root):
    options = {f'{s}_dataloader.dataset.data_root': str(root) for s in ('train', 'val', 'test')}
    return load_config(ROOT / 'configs' / path, options)


def inspect(config, *splits, **options):
    return inspect_data(config, splits, **options)


def found(report):
    """Pairs of a file's name and a kind; few images do not show every class."""
    pairs = {(problem.file.rsplit('/', 1)[-1], problem.kind) for problem in report.problems}
    return {pair for pair in pairs if pair[1] != 'empty_class'}


@pytest.mark.parametrize('num_workers', [0, 2])
def test_every_broken_file_is_found_and_no_other(folder_of_all, num_workers):
    cases = {**broken(), **damaged(), **rare()}
    report = inspect(config_on(DIGITS_CONFIG, folder_of_all), 'train', num_workers=num_workers)[
        'train'
    ]
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


def test_a_jpeg_is_whole_with_anything_after_its_end_and_not_without_it():
    jpeg = encode(picture(), 'JPEG')
    assert file_problem(jpeg) is None
    assert file_problem(jpeg + bytes(5000)) is None
    assert file_problem(jpeg[:2] + b'\xff' + jpeg[2:]) is None
    for length in range(3, len(jpeg) - 1, 7):
        assert file_problem(jpeg[:length]).kind == 'truncated'


def test_images_of_training_among_those_of_validation(few_digits, tmp_path):
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    image = next((tmp_path / 'train' / '3').iterdir())
    shutil.copy(image, tmp_path / 'val' / '5' / 'leaked.png')
    shutil.copy(image, tmp_path / 'train' / '7' / 'again.png')
    reports = inspect(config_on(DIGITS_CONFIG, tmp_path), 'train', 'val', 'test')
    assert found(reports['train']) == {('again.png', 'duplicate_image')}
    assert found(reports['val']) == {('leaked.png', 'split_overlap')}
    assert found(reports['test']) == found(reports['val'])
    assert reports['train'].num_per_class['7'] == 5


def write_list(root, lines):
    (root / 'train.txt').write_text('\n'.join(lines))
    config = config_on(DIGITS_CONFIG, root)
    config.train_dataloader.dataset.ann_file = 'train.txt'
    config.train_dataloader.dataset.metainfo = dict(classes=tuple(DIGITS))
    return config


def test_lists_of_labels(few_digits, tmp_path):
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    images = [str(p.relative_to(tmp_path / 'train')) for p in (tmp_path / 'train').rglob('*.png')]
    lines = [f'{path} {path[0]}' for path in sorted(images)]
    lines += [f'{images[0]} {images[0][0]}', '5/none.png 5']
    lines[7], lines[9] = f'{lines[7][:-2]} 10', f'{lines[9][:-2]} -1'
    lines += [f'{images[3]} {9 - int(images[3][0])}']
    report = inspect(write_list(tmp_path, lines), 'train')['train']
    assert found(report) == {
        ('train.txt:8', 'label_range'),
        ('train.txt:10', 'label_range'),
        ('none.png', 'missing_image'),
        ('train.txt:41', 'duplicate_entry'),
        ('train.txt:43', 'label_conflict'),
    }
    lines[4] = lines[4][:-2]
    report = inspect(write_list(tmp_path, lines), 'train')['train']
    assert {('train.txt:5', 'malformed')} < found(report)


def spoil_boxes(coco):
    """Gives the first annotations wrong boxes; returns what is to be found, by image."""
    nan, inf = float('nan'), float('inf')
    boxes = [
        ([nan, 0, 9, 9], 'box_not_finite'), ([3, 3, inf, 9], 'box_not_finite'),
        ([60, 60, -20, 10], 'box_negative'), ([60, 60, 10, -20], 'box_negative'),
        ([200, 10, 30, 30], 'box_outside'), ([10, -50, 30, 30], 'box_outside'),
        ([10, 10, 0, 30], 'box_empty'), ([110, 10, 30, 30], 'box_partly_outside'),
    ]  # fmt: skip
    names = {image['id']: image['file_name'] for image in coco['images']}
    expected = set()
    for annotation, (box, kind) in zip(coco['annotations'], boxes, strict=False):
        annotation['bbox'] = box
        expected.add((names[annotation['image_id']], kind))
    return expected


def change_coco(scenes, change):
    path = scenes / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    result = change(content)
    path.write_text(json.dumps(content))
    return result


def test_boxes_and_outlines_in_coco_format(scenes):
    expected = change_coco(scenes, spoil_boxes)

    def change(content):
        last, other, third = content['annotations'][-3:]
        last['segmentation'] = [[1, 2, 3, 4]]
        other['segmentation'] = [[1, 2, float('nan'), 4, 5, 6]]
        third['segmentation'] = dict(size=[3, 3], counts=[9])
        names = {image['id']: image['file_name'] for image in content['images']}
        kinds = ('outline_short', 'outline_not_finite', 'mask_size')
        return {
            (names[entry['image_id']], kind)
            for entry, kind in zip(content['annotations'][-3:], kinds, strict=True)
        }

    expected |= change_coco(scenes, change)
    report = inspect(config_on(DETECTION, f'{scenes}/'), 'train')['train']
    assert found(report) == expected
    assert len(expected) >= 9


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
    report = inspect(config_on(DETECTION, f'{scenes}/'), 'train')['train']
    # Boxes reach beyond the smaller images, of course.
    assert {pair for pair in found(report) if pair[1] != 'box_partly_outside'} - {
        (name, 'box_outside') for name in ('0003.png', '0004.png')
    } == expected


def repeat_image(content):
    content['images'].append(dict(content['images'][0], file_name='0001.png'))


def repeat_annotation(content):
    content['annotations'].append(dict(content['annotations'][0]))


def lose_image(content):
    content['annotations'][0]['image_id'] = 999


def lose_category(content):
    content['annotations'][0]['category_id'] = 99


def lose_area(content):
    del content['annotations'][0]['area']


@pytest.mark.parametrize(
    ('change', 'kind', 'detail'),
    [
        (repeat_image, 'duplicate_id', 'has the id 0 2 times in images'),
        (repeat_annotation, 'duplicate_id', 'has the id 1 2 times in annotations'),
        (lose_image, 'orphan', 'has annotation 1 of image 999, which'),
        (lose_category, 'orphan', 'has annotation 1 of category 99, which'),
        (lose_area, 'malformed', 'has no `area` in annotations[0]'),
    ],
)
def test_entries_of_coco_files(scenes, change, kind, detail):
    change_coco(scenes, change)
    (scenes / 'train' / 'images' / '0005.png').write_bytes(b'')
    report = inspect(config_on(DETECTION, f'{scenes}/'), 'train')['train']
    assert [f.kind for f in report.problems if detail in f.detail] == [kind]
    if kind != 'malformed':  # the rest is looked at all the same
        assert ('0005.png', 'empty_file') in found(report)


def test_labels_in_dota_format(scenes):
    labels = scenes / 'train' / 'labelTxt'
    (labels / '0000.txt').write_text('-90 -90 -50 -90 -50 -50 -90 -50 3 0')
    (labels / '0001.txt').write_text('20 20 20 20 20 20 20 20 3 0')
    (labels / '0002.txt').write_text('')
    (scenes / 'train' / 'images' / '0003.png').unlink()
    (scenes / 'train' / 'images' / '0004.png').write_bytes(b'<html>')
    config = config_on(ROTATED, f'{scenes}/')
    report = inspect(config, 'train')['train']
    assert found(report) == {
        ('0000.png', 'box_outside'), ('0001.png', 'box_empty'), ('0003.png', 'missing_image'),
        ('0004.png', 'unreadable'),
    }  # fmt: skip
    (labels / '0005.txt').write_text('1 1 9 1 9 9 1 nan 3 0\n1 1 9 1 9 9 1 9 cat 0')
    report = inspect(config, 'train')['train']
    assert {('0005.txt:1', 'malformed'), ('0005.txt:2', 'label_range')} < found(report)


def spoil_masks(scenes):
    """Spoils seven masks and an image; returns what is to be found."""
    masks = scenes / 'train' / 'masks'

    def write(name, array):
        Image.fromarray(array).save(masks / f'{name}.png')

    (masks / '0000.png').unlink()
    write('0001', np.zeros((64, 128), np.uint8))
    write('0002', np.full((128, 128), 99, np.uint8))
    write('0003', np.full((128, 128), 259, np.uint16))  # 3 in eight bits
    write('0004', np.zeros((128, 128, 3), np.uint8))
    content = (masks / '0005.png').read_bytes()
    # Pillow reads the rest as zeros, which is the background.
    (masks / '0005.png').write_bytes(content[: len(content) // 2].ljust(len(content), b'\0'))
    (masks / '0006.png').write_bytes(b'')
    (scenes / 'train' / 'images' / '0007.png').write_bytes(b'GIF89a')
    return {
        ('0000.png', 'missing_mask'), ('0001.png', 'mask_size'), ('0002.png', 'mask_value'),
        ('0003.png', 'mask_value'), ('0004.png', 'mask_mode'), ('0005.png', 'truncated'),
        ('0006.png', 'empty_file'), ('0007.png', 'unreadable'),
    }  # fmt: skip


def test_masks(scenes):
    expected = spoil_masks(scenes)
    report = inspect(config_on(SEGMENTATION, scenes), 'train')['train']
    assert found(report) == expected


def test_every_kind_is_documented_with_its_severity():
    page = (ROOT / 'docs' / 'datasets' / 'checking.md').read_text()
    rows = re.findall(r'^\| `(\w+)` \| (error|warning) \|', page, re.MULTILINE)
    assert dict(rows) == {**dict.fromkeys(ERRORS, 'error'), **dict.fromkeys(WARNINGS, 'warning')}
