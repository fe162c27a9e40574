"""Checks, splits and results of an import, whatever the format."""

import json
import subprocess
import sys

import numpy as np
import pytest
from importing_files import coco_objects, dota_objects, import_tree, kinds, write_tree
from mmcv.transforms import LoadImageFromFile
from paths import ROOT
from PIL import Image

from edgenext_mm.datasets.importing import import_data
from edgenext_mm.errors import UserError

SQUARE = (100, 100)


def yolo(lines, size=SQUARE):
    """A YOLO set with one image per text."""
    files = {f'images/{i}.jpg': size for i in range(len(lines))}
    files |= {f'labels/{i}.txt': text for i, text in enumerate(lines)}
    return files | {'data.yaml': 'names: [cup, pen]'}


def coco(annotations, size=SQUARE, count=2):
    images = [dict(id=i, file_name=f'{i}.jpg', width=size[0], height=size[1]) for i in range(count)]
    entries = [dict(id=i, image_id=0, category_id=1) | a for i, a in enumerate(annotations)]
    return dict(images=images, annotations=entries, categories=[dict(id=1, name='cup')])


# Round trips


def test_coco_survives_an_import_unchanged(tmp_path):
    annotations = [
        dict(bbox=[0.1, 0.2, 30.3, 40.7], area=17.25, iscrowd=0)
        | dict(segmentation=[[0.1, 0.2, 30.4, 0.2, 30.4, 40.9], [5, 5, 9, 5, 9, 9]]),
        dict(bbox=[10, 0, 1, 100], area=100, iscrowd=1)
        | dict(segmentation=dict(size=[100, 100], counts=[1000, 100, 8900])),
        dict(bbox=[99.5, 99.5, 0.5, 0.5], area=0.25, iscrowd=0),
    ]
    files = {'annotations/train.json': coco(annotations), '0.jpg': SQUARE, '1.jpg': SQUARE}
    files['annotations/val.json'] = coco([], count=0) | dict(
        images=[dict(id=1, file_name='v.jpg', width=100, height=100)]
    )
    _, first = import_tree(tmp_path, files | {'v.jpg': SQUARE}, 'instance-segmentation')
    import_data(first, 'detection', tmp_path / 'again')
    # Boxes alone are left out of instance segmentation.
    read = json.loads((first / 'annotations/train.json').read_text())['annotations']
    for entry, given in zip(read, annotations[:2], strict=True):
        assert {key: entry[key] for key in given} == given
    for split in ('train', 'val'):
        path = f'annotations/{split}.json'
        assert json.loads((tmp_path / 'again' / path).read_text()) == json.loads(
            (first / path).read_text()
        )


def test_dota_survives_an_import_unchanged(tmp_path):
    text = '20.1234 10 60 10.5 60 30 20.5 30 ship 1\n'
    files = {'images/a.png': SQUARE, 'images/b.png': SQUARE}
    files |= {'labelTxt/a.txt': text, 'labelTxt/b.txt': text}
    _, first = import_tree(tmp_path, files, 'rotated-detection')
    import_data(first, 'rotated-detection', tmp_path / 'again')
    assert dota_objects(tmp_path / 'again') == dota_objects(first)
    assert (first / 'train/labelTxt').iterdir().__next__().read_text() == text


def test_masks_survive_an_import_unchanged(tmp_path):
    mask = np.array([[0, 1, 255], [1, 2, 0]], np.uint8)
    files = {f'images/{n}.png': (3, 2) for n in 'ab'} | {f'masks/{n}.png': mask for n in 'ab'}
    _, first = import_tree(tmp_path, files, 'segmentation', classes=['sky', 'road', 'car'])
    again = import_data(first, 'segmentation', tmp_path / 'again')
    assert again.classes == ['sky', 'road', 'car']
    for path in (tmp_path / 'again').glob('*/masks/*.png'):
        assert np.asarray(Image.open(path)).tolist() == mask.tolist()


# Wrong coordinates


def test_boxes_that_cannot_be_used(tmp_path):
    boxes = [[-5, 10, 20, 200], [120, 10, 5, 5], [10, 10, 0, 5], [float('nan'), 1, 2, 3]]
    annotations = [dict(bbox=box) for box in [*boxes, [1, 2, 3, 4], [50, 50, 50.005, 50]]]
    files = {'labels.json': coco(annotations), '0.jpg': SQUARE, '1.jpg': SQUARE}
    summary, out = import_tree(tmp_path, files, 'detection')
    assert [box for _, box, _ in coco_objects(out)['0.jpg']] == [
        [0, 10, 15, 90],
        [1, 2, 3, 4],
        [50, 50, 50.005, 50],  # beyond the image by rounding
    ]
    found = kinds(summary)
    for action, kind in (
        ('changed', 'box clipped to the image'),
        ('left out', 'box outside the image'),
        ('left out', 'box without an area'),
        ('left out', 'coordinates that are not finite'),
    ):
        assert found[action, kind] == 1
    assert sum(count for (action, _), count in found.items() if action != 'note') == 4
    (clipped,) = [f for f in summary.findings if f.action == 'changed']
    assert clipped.file == 'labels.json:1'
    assert clipped.detail == 'cup: [-5.0, 10.0, 20.0, 200.0] to [0.0, 10.0, 15.0, 90.0]'


@pytest.mark.parametrize(
    ('line', 'detail'),
    [
        ('0 50 50 20 20', 'ValueError|not fractions of the image'),
        ('0 0.5 0.5 0.2 0.2 0.9', 'a prediction with a score'),
        ('7 0.5 0.5 0.2 0.2', 'class 7, but 2 names'),
        ('0 0.5 0.5', '3 numbers'),
        ('cup 0.5 0.5 0.2 0.2', 'could not convert'),
    ],
)
def test_malformed_yolo_lines(tmp_path, line, detail):
    good = '0 0.5 0.5 0.2 0.2\n'
    summary, _ = import_tree(tmp_path, yolo([good, good + line]), 'detection')
    (finding,) = [f for f in summary.findings if f.action == 'left out']
    assert finding.file == 'labels/1.txt:2'
    assert any(part in finding.detail for part in detail.split('|'))
    assert sum(s['objects'] for s in summary.splits.values()) == 2


# EXIF orientation


@pytest.mark.parametrize(
    ('stated', 'orientation'),
    # With orientations 2 to 4, the size does not tell whether coordinates are turned.
    [('turned', n) for n in range(1, 9)] + [('stored', n) for n in (1, 5, 6, 7, 8)],
)
def test_boxes_of_turned_images(tmp_path, stated, orientation):
    """A white rectangle is where its box says after loading as training does."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[8:16, 8:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('0.jpg', '1.jpg'):
        Image.fromarray(pixels).save(source / name, exif=exif, quality=100)
    if stated == 'stored':
        box, size = [8, 8, 32, 8], (60, 40)
    else:
        loaded = LoadImageFromFile()(dict(img_path=str(source / '0.jpg')))['img'][..., 0] > 127
        rows, columns = np.flatnonzero(loaded.any(1)), np.flatnonzero(loaded.any(0))
        box = [int(columns[0]), int(rows[0]), len(columns), len(rows)]
        size = (40, 60) if orientation >= 5 else (60, 40)
    files = {'labels.json': coco([dict(bbox=box)], size)}
    summary, out = import_tree(tmp_path, files, 'detection', link=True)
    image = next(p for p in out.glob('*/images/0.jpg'))
    loaded = LoadImageFromFile()(dict(img_path=str(image)))['img'][..., 0] > 127
    (objects,) = [o for o in coco_objects(out).values() if o]
    left, top, width, height = (round(v) for v in objects[0][1])
    expected = np.zeros_like(loaded)
    expected[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(loaded, expected)
    reported = [k for k in kinds(summary) if 'EXIF' in k[1]]
    assert bool(reported) == (orientation > 1)


@pytest.mark.parametrize('as_stored', [True, False])
def test_masks_of_turned_images(tmp_path, as_stored):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    source = tmp_path / 'source'
    (source / 'images').mkdir(parents=True)
    for name in 'ab':
        Image.new('RGB', (3, 2)).save(source / f'images/{name}.jpg', exif=exif)
    stored = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    turned = np.array([[3, 0], [4, 1], [5, 2]], np.uint8)
    mask = stored if as_stored else turned
    files = {f'masks/{name}.png': mask for name in 'ab'}
    _, out = import_tree(tmp_path, files, 'segmentation', link=True)
    for path in out.glob('*/masks/*.png'):
        assert np.asarray(Image.open(path)).tolist() == turned.tolist()


# Splits


def names_by_split(out):
    return {
        split.name: sorted(p.stem for p in (split / 'images').iterdir())
        for split in out.iterdir()
        if (split / 'images').is_dir()
    }


def test_splits_are_reproducible_and_stratified(tmp_path):
    lines = ['0 0.5 0.5 0.2 0.2\n'] * 40 + ['1 0.5 0.5 0.2 0.2\n'] * 10
    source = write_tree(tmp_path / 'source', yolo(lines))
    outs = []
    for index, seed in enumerate((0, 0, 1)):
        outs.append(tmp_path / str(index))
        summary = import_data(source, 'detection', outs[-1], split=(0.6, 0.2, 0.2), seed=seed)
        assert {s: d['per_class'] for s, d in summary.splits.items()} == dict(
            train=dict(cup=24, pen=6), val=dict(cup=8, pen=2), test=dict(cup=8, pen=2)
        )
    first, same, other = (names_by_split(out) for out in outs)
    assert first == same != other


def test_groups_stay_together(tmp_path):
    files = {f'images/cam{i % 6}_{i}.jpg': SQUARE for i in range(30)}
    files |= {f'labels/cam{i % 6}_{i}.txt': '0 0.5 0.5 0.2 0.2' for i in range(30)}
    summary, out = import_tree(tmp_path, files, 'detection', split=(0.5, 0.5), group=r'^(cam\d)_')
    cameras = [{name[:4] for name in names} for names in names_by_split(out).values()]
    assert not cameras[0] & cameras[1]
    assert [s['images'] for s in summary.splits.values()] == [15, 15]


def test_one_image_serves_for_training_and_validation(tmp_path):
    summary, out = import_tree(tmp_path, yolo(['0 0.5 0.5 0.2 0.2']), 'detection')
    assert names_by_split(out) == dict(train=['0'], val=['0'])
    assert kinds(summary)['note', 'one image only: used for training and validation'] == 1


def test_a_class_that_only_validation_has_is_reported(tmp_path):
    files = {'images/train/a.jpg': SQUARE, 'images/val/b.jpg': SQUARE}
    files |= {'labels/train/a.txt': '0 0.5 0.5 0.2 0.2', 'labels/val/b.txt': '1 0.5 0.5 0.2 0.2'}
    summary, _ = import_tree(tmp_path, files, 'detection')
    details = {f.kind: f.detail for f in summary.findings}
    assert details['class that train does not have'] == 'class_1: 1 in val; it cannot be learnt'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split=(0.8, 0.1)), r'sum to 1 .*got 0.8 0.1'),
        (dict(split=(1.0,)), 'two or three fractions'),
        (dict(group='('), 'not a regular expression'),
        (dict(group='jpg'), '1 groups of images cannot be split into 2 parts'),
        (dict(format='yolo9'), "one of class-folders, .*got 'yolo9'"),
        (dict(format='coco'), r'no files in the format coco. Found: yolo \(labels/0.txt\)'),
        (dict(classes=['cup', 'cup']), 'must differ'),
        (dict(classes=['pen', 'cups']), "names 'cups', which .* Is 'cup' meant"),
        (dict(colors='nowhere.csv'), 'nowhere.csv does not exist'),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        import_tree(tmp_path, yolo(['0 0.5 0.5 0.2 0.2'] * 3), 'detection', **options)
    assert [p.name for p in tmp_path.iterdir()] == ['source']  # nothing half-written


# Sources


def test_two_formats_in_one_folder(tmp_path):
    files = yolo(['0 0.5 0.5 0.2 0.2'] * 2) | {'labels.json': coco([dict(bbox=[1, 2, 3, 4])])}
    with pytest.raises(UserError, match=r'2 formats: coco .*yolo.*--format coco or --format yolo'):
        import_tree(tmp_path, files, 'detection')
    import_data(tmp_path / 'source', 'detection', tmp_path / 'out', format='coco')
    boxes = [o[0][1] for o in coco_objects(tmp_path / 'out').values() if o]
    assert boxes == [[1, 2, 3, 4]]


def test_one_annotation_file_as_source(tmp_path):
    files = yolo(['0 0.5 0.5 0.2 0.2'] * 2) | {
        'images/labels.json': coco([dict(bbox=[1, 2, 3, 4])])
    }
    source = write_tree(tmp_path / 'source', files)
    summary = import_data(source / 'images/labels.json', 'detection', tmp_path / 'out')
    assert summary.format == 'coco'
    assert sum(split['objects'] for split in summary.splits.values()) == 1


@pytest.mark.parametrize(
    ('files', 'task', 'message'),
    [
        ({}, 'detection', r'No annotations for detection .*0 files, 0 images'),
        ({'a.jpg': SQUARE}, 'detection', r'No annotations .*1 images\).*yolo, voc'),
        (
            {'images/a.jpg': SQUARE, 'labels/a.txt': '0 0.5 0.5 0.2 0.2'},
            'classification',
            r'no annotations for classification. Found: yolo .*--task detection',
        ),
        ({'a.jpg': SQUARE, 'a.json': '{"shapes": ['}, 'detection', 'invalid JSON'),
        (
            {'a.jpg': SQUARE, 'labels.json': dict(images=[dict(id=1)], annotations=[])},
            'detection',
            "labels.json cannot be read in the format coco: KeyError: 'file_name'",
        ),
        ({'labels.json': coco([])}, 'detection', 'none of its images can be used.*2 times: image'),
        (yolo(['']), 'detection', 'None of the 1 images has an object'),
        (
            {'images/a.jpg': SQUARE, 'labels/a.txt': ''},
            'detection',
            '1 text files are empty, such as labels/a.txt',
        ),
        ({'cat/a.jpg': SQUARE}, 'classification', 'one class folder, cat/; .* two or more'),
        (
            {'a.jpg': SQUARE, 'b.jpg': SQUARE, 'labels.csv': 'name,label\na.jpg,cat\nb.jpg,cat\n'},
            'classification',
            "one class only, 'cat'",
        ),
        ({'cat/a.jpg': SQUARE, 'dog/a.jpg': SQUARE}, 'detection', '--task classification reads'),
        (
            {'images/a.jpg': SQUARE, 'masks/a.png': np.zeros((100, 100), np.uint8)},
            'detection',
            'masks, which are for --task segmentation',
        ),
    ],
    ids=[
        *('empty', 'images-only', 'other-task', 'broken', 'no-name', 'no-images', 'no-objects'),
        *('empty-labels', 'one-folder', 'one-class', 'class-folders', 'masks'),
    ],
)
def test_sources_without_annotations(tmp_path, files, task, message):
    (tmp_path / 'source').mkdir()
    with pytest.raises(UserError, match=message):
        import_tree(tmp_path, files, task)


def test_a_file_that_is_no_annotation_file(tmp_path):
    source = write_tree(tmp_path / 'source', yolo(['0 0.5 0.5 0.2 0.2']))
    with pytest.raises(
        UserError, match=r'0.jpg is neither a folder nor an annotation file \(.json'
    ):
        import_data(source / 'images/0.jpg', 'detection', tmp_path / 'out')


def test_copies_of_objects_are_reported(tmp_path):
    box, other = '0 0.5 0.5 0.2 0.2\n', '1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.21\n'
    summary, out = import_tree(tmp_path, yolo([box + other + box, box]), 'detection')
    copies = [f.file for f in summary.findings if f.kind == 'second copy of an object']
    assert copies == ['labels/0.txt:4']
    assert [len(objects) for objects in sorted(coco_objects(out).values(), key=len)] == [1, 4]


def test_unreadable_images_and_missing_labels_are_reported(tmp_path):
    files = yolo(['0 0.5 0.5 0.2 0.2'] * 3)
    files |= {'images/x.jpg': b'', 'images/y.jpg': b'no image', 'images/z.jpg': SQUARE}
    files['labels/gone.txt'] = '0 0.5 0.5 0.2 0.2'
    summary, out = import_tree(tmp_path, files, 'detection')
    assert kinds(summary)['left out', 'unreadable image'] == 2
    assert kinds(summary)['left out', 'labels without an image'] == 1
    assert summary.splits['train']['images'] + summary.splits['val']['images'] == 4
    assert coco_objects(out)['z.jpg'] == []


def test_the_target_must_be_new_and_outside(tmp_path):
    source = write_tree(tmp_path / 'source', yolo(['0 0.5 0.5 0.2 0.2'] * 2))
    with pytest.raises(UserError, match='is inside the source'):
        import_data(source, 'detection', source / 'out')
    write_tree(tmp_path / 'out', {'kept.txt': 'kept'})
    with pytest.raises(UserError, match='exists and is not empty'):
        import_data(source, 'detection', tmp_path / 'out')
    assert (tmp_path / 'out/kept.txt').read_text() == 'kept'
    with pytest.raises(UserError, match=r'below cannot be written: FileExistsError'):
        import_data(source, 'detection', tmp_path / 'out/kept.txt/below')


def test_the_summary_describes_sizes(tmp_path):
    lines = ['0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.4 0.4', '']
    summary, out = import_tree(tmp_path, yolo(lines, (200, 100)), 'detection')
    written = json.loads((out / 'import.json').read_text())
    assert written['image_sizes']['most_common'] == [[200, 100, 2]]
    assert written['box_sizes']['width'] == {
        '0': 40, '5': 42, '25': 50, '50': 60, '75': 70, '95': 78, '100': 80
    }  # fmt: skip
    assert written['box_sizes']['height']['50'] == 40
    assert written['objects_per_image']['100'] == 2
    assert written['image_suffix'] == '.jpg'
    assert summary.classes == ['cup', 'pen']


def test_the_tool(tmp_path):
    write_tree(tmp_path / 'source', yolo(['0 0.5 0.5 0.2 0.2', '0 0.9 0.5 0.4 0.2']))
    command = [sys.executable, ROOT / 'tools/import_data.py', 'source', '--out', 'out', '--link']
    command += ['--task', 'rotated_detection']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '2 images written to out; 0 changed, 0 left out.' in done.stdout
    image = next((tmp_path / 'out').glob('*/images/0.jpg'))
    assert image.is_symlink()
    assert image.resolve() == (tmp_path / 'source/images/0.jpg').resolve()
    assert dota_objects(tmp_path / 'out')['0'] == [('cup', [40, 40, 60, 40, 60, 60, 40, 60], 0)]


# What the data sets of the libraries make of the results


def test_mmdet_reads_the_result(tmp_path):
    from mmdet.datasets import CocoDataset

    lines = ['1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.4 0.4', '']
    _, out = import_tree(tmp_path, yolo(lines, (200, 100)), 'detection', split=(0.5, 0.5))
    samples = []
    for split in ('train', 'val'):
        dataset = CocoDataset(
            data_root=str(out),
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/images/'),
            metainfo=dict(classes=('cup', 'pen')),
        )
        samples += [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(LoadImageFromFile()(dict(sample)) is not None for sample in samples)
    assert sorted(len(sample['instances']) for sample in samples) == [0, 2]
    objects = [i for sample in samples for i in sample['instances']]
    assert [i['bbox_label'] for i in objects] == [1, 0]
    np.testing.assert_allclose(
        [i['bbox'] for i in objects], [[80, 30, 120, 70], [60, 30, 140, 70]], atol=1e-9
    )


def test_mmseg_reads_the_result(tmp_path):
    from mmseg.datasets import BaseSegDataset

    mask = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    files = {f'images/{n}.JPEG': (3, 2) for n in 'ab'} | {f'masks/{n}.png': mask for n in 'ab'}
    summary, out = import_tree(tmp_path, files, 'segmentation', split=(0.5, 0.5))
    dataset = BaseSegDataset(
        data_root=str(out),
        data_prefix=dict(img_path='val/images', seg_map_path='val/masks'),
        img_suffix=summary.image_suffix,
        metainfo=dict(classes=summary.classes),
        pipeline=[dict(type='mmseg.LoadAnnotations')],
    )
    assert len(dataset) == 1
    assert dataset[0]['gt_seg_map'].tolist() == mask.tolist()
    assert LoadImageFromFile()(dict(dataset[0]))['img'].shape == (2, 3, 3)


def test_mmrotate_reads_the_result(tmp_path):
    from mmrotate.datasets import DOTADataset

    files = {f'images/{n}.jpg': SQUARE for n in 'ab'}
    files |= {f'labelTxt/{n}.txt': '10 10 30 10 30 20 10 20 ship 1' for n in 'ab'}
    summary, out = import_tree(tmp_path, files, 'rotated-detection', split=(0.5, 0.5))
    dataset = DOTADataset(
        data_root=str(out),
        ann_file='val/labelTxt/',
        data_prefix=dict(img_path='val/images/'),
        img_suffix=summary.image_suffix.lstrip('.'),
        metainfo=dict(classes=summary.classes),
    )
    (instance,) = dataset.get_data_info(0)['instances']
    assert instance['bbox'] == [10, 10, 30, 10, 30, 20, 10, 20]


def test_image_folder_reads_the_result(tmp_path):
    from edgenext_mm.datasets.image_folder import ImageFolder

    files = {f'{label}/{i}.jpg': (8, 6) for label in ('cat', 'dog') for i in range(4)}
    _, out = import_tree(tmp_path, files, 'classification', split=(0.5, 0.5))
    dataset = ImageFolder(data_root=str(out), data_prefix='val', classes_from='train')
    assert sorted(dataset.get_gt_labels().tolist()) == [0, 0, 1, 1]
