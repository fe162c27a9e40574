"""Masks in all forms, and masks drawn from outlines."""

import numpy as np
import pytest
from importing_files import import_tree, kinds, write_tree
from PIL import Image

from edgenext_mm.datasets.importing import import_data
from edgenext_mm.errors import UserError

VALUES = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)  # 255: void
SIZE = (3, 2)
COLOURS = {'sky': (128, 128, 128), 'road': (128, 64, 128), 'car': (64, 0, 128), 'void': (0, 0, 0)}
#: VALUES by colour, with void for 255
RGB = np.array(
    [[list(COLOURS.values())[v if v < 3 else 3] for v in row] for row in VALUES], np.uint8
)


def read(out):
    return {p.name: np.asarray(Image.open(p)).tolist() for p in sorted(out.glob('*/masks/*'))}


def two_images(folder='images'):
    return {f'{folder}/a.png': SIZE, f'{folder}/b.png': SIZE}


@pytest.mark.parametrize(
    ('images', 'masks'),
    [
        ('{s}/images/{n}.png', '{s}/masks/{n}.png'),
        ('img_dir/{s}/{n}.png', 'ann_dir/{s}/{n}.png'),
        ('{s}/{n}.png', '{s}_labels/{n}_L.png'),
        ('{s}/{n}.png', '{s}annot/{n}.png'),
        ('{s}/{n}.png', '{s}/{n}_mask.png'),
    ],
    ids=['folders', 'mmseg', 'camvid', 'segnet', 'roboflow'],
)
def test_index_masks_in_the_usual_places(tmp_path, images, masks):
    files = {}
    for split, name in (('train', 'a'), ('val', 'b')):
        files[images.format(s=split, n=name)] = SIZE
        files[masks.format(s=split, n=name)] = VALUES
    summary, out = import_tree(tmp_path, files, 'segmentation', classes=['sky', 'road', 'car'])
    assert read(out) == {'a.png': VALUES.tolist(), 'b.png': VALUES.tolist()}
    assert summary.classes == ['sky', 'road', 'car']
    assert summary.ignore_index == 255
    assert summary.pixels == {'sky': 2, 'road': 4, 'car': 4, '(ignored)': 2}
    assert [s['images'] for s in summary.splits.values()] == [1, 1]


def test_other_values_are_numbered_anew_and_void_is_ignored(tmp_path):
    values = np.array([[4, 7, 11]], np.uint8)
    files = {'images/a.jpg': (3, 1), 'images/b.jpg': (3, 1), 'masks/a.png': values}
    files['masks/b.png'] = values
    summary, out = import_tree(tmp_path, files, 'segmentation', void=[11])
    assert read(out)['a.png'] == [[0, 1, 255]]
    assert summary.classes == ['class_4', 'class_7']


def test_black_and_white_masks_have_two_classes(tmp_path):
    mask = np.array([[0, 255, 255], [0, 0, 0]], np.uint8)
    files = two_images() | {'masks/a.png': mask, 'masks/b.png': mask}
    summary, out = import_tree(tmp_path, files, 'segmentation', classes=['background', 'crack'])
    assert read(out)['a.png'] == [[0, 1, 1], [0, 0, 0]]
    assert kinds(summary)['note', 'masks of 0 and 255: 255 is a class'] == 1


def test_palette_masks_of_voc(tmp_path):
    files = {f'JPEGImages/{n}.jpg': SIZE for n in 'abc'}
    files |= {'ImageSets/Segmentation/train.txt': 'a\n', 'ImageSets/Segmentation/val.txt': 'b\n'}
    source = tmp_path / 'source' / 'SegmentationClass'
    source.mkdir(parents=True)
    for name in 'abc':
        image = Image.fromarray(VALUES, mode='P')
        image.putpalette([5, 6, 7] * 256)  # colours say nothing
        image.save(source / f'{name}.png')
    summary, out = import_tree(tmp_path, files, 'segmentation')
    assert read(out) == {'a.png': VALUES.tolist(), 'b.png': VALUES.tolist()}
    assert kinds(summary)['left out', 'not in the lists of ImageSets'] == 1


def test_masks_beside_instance_masks_drawings_and_boxes(tmp_path):
    """VOC, CVAT and LabelMe write further images of the same names."""
    names = ['a', 'sub/b', 'c d']
    box = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>'
    xml = (
        f'<annotation><filename>a.jpg</filename><object><name>car</name>{box}</object></annotation>'
    )
    files = {'Annotations/a.xml': xml, 'class_names.txt': '_background_\nroad\ncar'}
    for name in names:
        files[f'JPEGImages/{name}.jpg'] = SIZE
        files[f'SegmentationClass/{name}.png'] = VALUES
        files[f'SegmentationObject/{name}.png'] = VALUES[::-1].copy()
        files[f'SegmentationClassVisualization/{name}.jpg'] = SIZE
    files |= {'ImageSets/Segmentation/train.txt': 'a\nsub/b\n'}
    files |= {'ImageSets/Segmentation/val.txt': 'c d\n'}
    summary, out = import_tree(tmp_path, files, 'segmentation')
    assert summary.format == 'masks'
    assert read(out) == dict.fromkeys(('a.png', 'b.png', 'c d.png'), VALUES.tolist())
    assert [s['images'] for s in summary.splits.values()] == [2, 1]
    assert summary.classes == ['_background_', 'road', 'car']
    assert not [f for f in summary.findings if f.action == 'left out']


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('class_dict.csv', '{n},{r},{g},{b}'),
        ('labelmap.txt', '{n}:{r},{g},{b}::'),
        ('label_colors.txt', '{r} {g} {b}\t\t{n}'),
    ],
)
def test_colour_masks(tmp_path, file, line):
    header = {'class_dict.csv': ['name,r,g,b'], 'labelmap.txt': ['# label:color_rgb:parts:actions']}
    lines = [line.format(n=n, r=r, g=g, b=b) for n, (r, g, b) in COLOURS.items()]
    rgb_with_odd = RGB.copy()
    rgb_with_odd[0, 0] = (1, 2, 3)
    files = two_images() | {'masks/a.png': RGB, 'masks/b.png': rgb_with_odd}
    files[file] = '\n'.join([*header.get(file, []), *lines])
    summary, out = import_tree(tmp_path, files, 'segmentation')
    assert summary.classes == ['sky', 'road', 'car']
    assert read(out) == {'a.png': VALUES.tolist(), 'b.png': [[255, 1, 2], [2, 255, 1]]}
    (odd,) = [f for f in summary.findings if f.kind == 'colour that is not in the table']
    assert (odd.file, odd.detail) == ('masks/b.png', 'colour (1, 2, 3): 1 pixels are ignored')


@pytest.mark.parametrize('palette', [False, True])
def test_index_masks_beside_a_table_of_colours(tmp_path, palette):
    table = '\n'.join(f'{r} {g} {b} {name}' for name, (r, g, b) in COLOURS.items())
    source = write_tree(tmp_path / 'source', two_images() | {'label_colors.txt': table})
    (source / 'masks').mkdir()
    values = np.array([[0, 1, 2], [2, 3, 1]], np.uint8)  # 3: void in the table
    if palette:  # the colours count, not the values
        values = 3 - values
    for name in 'ab':
        image = Image.fromarray(values)
        if palette:
            image.putpalette([v for colour in reversed(COLOURS.values()) for v in colour])
        image.save(source / f'masks/{name}.png')
    summary = import_data(source, 'segmentation', tmp_path / 'out')
    assert summary.classes == ['sky', 'road', 'car']
    assert read(tmp_path / 'out')['a.png'] == VALUES.tolist()


def test_colour_table_from_elsewhere(tmp_path):
    table = tmp_path / 'table.json'
    table.write_text('{"sky": [128, 128, 128], "road": [128, 64, 128], "car": [64, 0, 128]}')
    files = two_images() | {'masks/a.png': RGB, 'masks/b.png': RGB}
    _, out = import_tree(tmp_path, files, 'segmentation', colors=table)
    assert read(out)['a.png'] == VALUES.tolist()


@pytest.mark.parametrize('colours', [True, False])
def test_table_of_datumaro(tmp_path, colours):
    table = dict(label_map={str(i): name for i, name in enumerate(COLOURS)})
    values = np.where(VALUES == 255, 3, VALUES).astype(np.uint8)
    if colours:
        table['segmentation_colors'] = [list(colour) for colour in COLOURS.values()]
    mask = RGB if colours else values
    files = two_images() | {'dataset_meta.json': table, 'masks/a.png': mask, 'masks/b.png': mask}
    summary, out = import_tree(tmp_path, files, 'segmentation')
    assert read(out)['a.png'] == VALUES.tolist()
    assert summary.classes == ['sky', 'road', 'car']


def test_colours_without_a_table(tmp_path):
    files = two_images() | {'masks/a.png': RGB, 'masks/b.png': RGB}
    with pytest.raises(UserError, match=r'4 colours \(\(0, 0, 0\), .*--colors FILE'):
        import_tree(tmp_path, files, 'segmentation')


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        ({'masks/a.jpg': (3, 2)}, 'masks/a.jpg may be a mask, .*must be PNG'),
        ({'masks/a.png': np.full((2, 3), 255, np.uint8)}, 'All pixels of the masks are ignored'),
        ({'masks/a.png': np.full((2, 3), 4, np.uint8)}, "one class only, 'class_4'"),
    ],
    ids=['jpeg', 'all-ignored', 'one-class'],
)
def test_masks_that_cannot_be_trained_on(tmp_path, mask, message):
    with pytest.raises(UserError, match=message):
        import_tree(tmp_path, {'images/a.jpg': (3, 2)} | mask, 'segmentation')


def test_masks_of_another_size_are_left_out(tmp_path):
    files = two_images() | {'images/c.png': SIZE, 'masks/a.png': VALUES, 'masks/b.png': VALUES}
    files['masks/c.png'] = VALUES[:1]
    summary, out = import_tree(tmp_path, files, 'segmentation')
    (finding,) = [f for f in summary.findings if f.action == 'left out']
    assert finding.kind == 'mask of another size than its image'
    assert (finding.file, finding.detail) == ('masks/c.png', '3 x 1 instead of 3 x 2')
    assert sorted(read(out)) == ['a.png', 'b.png']


def test_outlines_are_drawn_with_the_smaller_object_in_front(tmp_path):
    files = {'images/a.jpg': (10, 10), 'images/b.jpg': (10, 10), 'data.yaml': 'names: [cup, pen]'}
    files['labels/a.txt'] = (
        '1 0.2 0.2 0.4 0.2 0.4 0.4 0.2 0.4\n0 0 0 0.6 0 0.6 0.6 0 0.6\n0 0.5 0.5 0.2 0.2'
    )
    summary, out = import_tree(tmp_path, files, 'segmentation')
    expected = np.zeros((10, 10), int)
    expected[:6, :6] = 1
    expected[2:4, 2:4] = 2
    assert read(out)['a.png'] == expected.tolist()
    assert summary.classes == ['background', 'cup', 'pen']
    assert kinds(summary)['left out', 'object with a box but no outline'] == 1


def test_images_of_several_formats_become_png(tmp_path):
    files = {'images/a.jpg': SIZE, 'images/b.png': SIZE}
    files |= {'masks/a.png': VALUES, 'masks/b.png': VALUES}
    summary, out = import_tree(tmp_path, files, 'segmentation', link=True)
    assert sorted(p.name for p in out.glob('*/images/*')) == ['a.png', 'b.png']
    assert {Image.open(p).format for p in out.glob('*/images/*')} == {'PNG'}
    assert summary.image_suffix == '.png'
