"""Each format as its tools write it, against numbers worked out by hand."""

import base64
import io
import math

import numpy as np
import pytest
from importing_files import coco_objects, dota_objects, import_tree, kinds, write_tree
from PIL import Image
from pycocotools import mask as coco_masks

from edgenext_mm.datasets.custom.layout import CustomData
from edgenext_mm.datasets.image_folder import ImageFolder
from edgenext_mm.datasets.importing import import_data
from edgenext_mm.datasets.importing.geometry import _read_runs, checked_rle
from edgenext_mm.errors import UserError

YOLO_IMAGES = {'images/train/a.jpg': (200, 100), 'images/val/b.jpg': (100, 50)}


def png_text(mask):
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, 'png')
    return base64.b64encode(stream.getvalue()).decode()


def decode(rle):
    from pycocotools import mask

    if isinstance(rle['counts'], list):
        rle = mask.frPyObjects(rle, *rle['size'])
    return mask.decode(rle).astype(bool)


# Classification


@pytest.mark.parametrize('val', ['val', 'valid', 'validation'])
def test_class_folders_with_splits(tmp_path, val):
    files = {f'train/cat/{i}.jpg': (8, 6) for i in range(3)}
    files |= {'train/dog/x.JPEG': (8, 6), f'{val}/cat/y.png': (8, 6), f'{val}/owl/z.jpg': (8, 6)}
    summary, out = import_tree(tmp_path, files, 'classification')
    assert summary.classes == ['cat', 'dog', 'owl']
    files = [path for path in out.rglob('*.*') if path.suffix not in ('.json', '.py')]
    written = sorted(path.relative_to(out).as_posix() for path in files)
    assert written == [
        'train/cat/0.jpg',
        'train/cat/1.jpg',
        'train/cat/2.jpg',
        'train/dog/x.JPEG',
        'val/cat/y.png',
        'val/owl/z.jpg',
    ]
    assert summary.splits['train']['per_class'] == dict(cat=3, dog=1, owl=0)
    assert kinds(summary)['note', 'class that train does not have'] == 1
    # Training counts three classes, as validation does.
    assert CustomData(out, 'classification').classes() == ('cat', 'dog', 'owl')
    names = dict(cat=0, dog=1, owl=2)
    for split in ('train', 'val'):
        folder = ImageFolder(str(out), split, metainfo=dict(classes=('cat', 'dog', 'owl')))
        found = {
            sample['img_path']: sample['gt_label']
            for sample in map(folder.get_data_info, range(len(folder)))
        }
        assert found == {str(path): names[path.parent.name] for path in (out / split).rglob('*.*')}


@pytest.mark.parametrize('folder', ['images', 'archive/pets'])
def test_class_folders_within_a_folder(tmp_path, folder):
    files = {f'{folder}/{label}/{i}.jpg': (8, 6) for label in ('cat', 'dog') for i in range(5)}
    summary, _ = import_tree(tmp_path, files, 'classification')
    assert summary.splits['train']['per_class'] == dict(cat=4, dog=4)


def test_csv_rows_without_a_label_are_reported(tmp_path):
    files = {f'{name}.jpg': (8, 6) for name in 'abc'}
    files['labels.csv'] = 'filename,label\na.jpg,cat\nb.jpg,\nc.jpg,dog\n'
    summary, _ = import_tree(tmp_path, files, 'classification')
    assert [(f.kind, f.file) for f in summary.findings if f.action == 'left out'][:1] == [
        ('no label', 'labels.csv:3')
    ]


def test_data_yaml_stands_for_its_folder(tmp_path):
    files = {'train/images/a.jpg': (20, 10), 'train/labels/a.txt': '0 0.5 0.5 0.2 0.2\n'}
    files['data.yaml'] = 'names: [cell]\ntrain: train/images\n'
    write_tree(tmp_path / 'source', files)
    summary = import_data(tmp_path / 'source' / 'data.yaml', 'detection', tmp_path / 'out')
    assert summary.classes == ['cell']
    assert summary.splits['train']['objects'] == 1


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    files = {f'{label}/{i}.jpg': (8, 6) for label in ('bus', 'train') for i in range(5)}
    summary, _ = import_tree(tmp_path, files, 'classification')
    assert summary.splits['train']['per_class'] == dict(bus=4, train=4)
    assert summary.splits['val']['per_class'] == dict(bus=1, train=1)


@pytest.mark.parametrize(
    'table',
    [
        'filename,label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n',
        'id;class;split\na;cat;train\nb;dog;train\nc;cat;val\nd;dog;val\n',
        'a.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n',
        ',image_name,label_name\n0,a.jpg,cat\n1,b.JPG,dog\n2,c,cat\n3,images/d.jpg,dog\n',
        'filename, cat, dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,1,0\nd.jpg,0,1\n',  # Roboflow _classes.csv
    ],
    ids=['header', 'semicolons', 'plain', 'pandas', 'columns'],
)
def test_csv_of_labels(tmp_path, table):
    files = {f'images/{name}.jpg': (8, 6) for name in 'abcd'} | {'labels.csv': table}
    summary, out = import_tree(tmp_path, files, 'classification', split=(0.5, 0.5))
    labels = {p.name: p.parent.name for p in out.rglob('*.jpg')}
    assert labels == {'a.jpg': 'cat', 'b.jpg': 'dog', 'c.jpg': 'cat', 'd.jpg': 'dog'}
    assert summary.splits['val']['per_class'] == dict(cat=1, dog=1)


def test_labels_of_images_from_annotation_tools(tmp_path):
    cvat = '<annotations><version>1.1</version><meta/>'
    labelme = {}
    for name, label in zip('abcd', ['cat', 'dog', 'cat', 'dog'], strict=True):
        cvat += (
            f'<image id="0" name="{name}.jpg" width="8" height="6"><tag label="{label}"/></image>'
        )
        flags = dict(cat=label == 'cat', dog=label == 'dog')
        labelme[f'{name}.json'] = dict(shapes=[], imagePath=f'{name}.jpg', flags=flags)
    images = {f'{name}.jpg': (8, 6) for name in 'abcd'}
    for index, files in enumerate([{'a.xml': f'{cvat}</annotations>'}, labelme]):
        folder = tmp_path / str(index)
        _, out = import_tree(folder, images | files, 'classification', split=(0.5, 0.5))
        labels = {p.name: p.parent.name for p in out.rglob('*.jpg')}
        assert labels == {'a.jpg': 'cat', 'b.jpg': 'dog', 'c.jpg': 'cat', 'd.jpg': 'dog'}


# YOLO


@pytest.mark.parametrize(
    'description',
    [
        {'data.yaml': 'path: ../data\ntrain: images/train\nval: images/val\nnames: [cup, pen]\n'},
        {'d.yaml': 'train: images/train\nval: images/val\nnames:\n  0: cup\n  1: pen\n'},
        {'classes.txt': 'cup\npen\n'},
        {
            'obj.names': 'cup\npen\n',
            'obj.data': 'train = data/train.txt\nvalid = data/v.txt\nnames = obj.names',
            'train.txt': 'data/images/train/a.jpg\n',
            'v.txt': 'data/images/val/b.jpg\n',
        },
    ],
    ids=['list', 'dict', 'classes.txt', 'darknet'],
)
def test_yolo_boxes(tmp_path, description):
    files = YOLO_IMAGES | description
    files['labels/train/a.txt'] = '1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.1 0.2\n'
    files['labels/val/b.txt'] = ''
    summary, out = import_tree(tmp_path, files, 'detection')
    assert summary.format == 'yolo'
    assert summary.classes == ['cup', 'pen']
    objects = coco_objects(out)
    assert [name for name, _, _ in objects['a.jpg']] == ['pen', 'cup']
    np.testing.assert_allclose(
        [box for _, box, _ in objects['a.jpg']], [[75, 25, 50, 50], [10, 10, 20, 20]]
    )
    assert objects['b.jpg'] == []
    assert summary.splits['val'] == dict(images=1, empty=1, objects=0, per_class=dict(cup=0, pen=0))


def test_yolo_without_names_and_roboflow_folders(tmp_path):
    files = {
        'train/images/a_jpg.rf.1f3c.jpg': (100, 100),
        'train/labels/a_jpg.rf.1f3c.txt': '2 0.5 0.5 0.5 0.5',
        'valid/images/b.jpg': (100, 100),
        'valid/labels/b.txt': '0 0.25 0.25 0.5 0.5',
    }
    summary, out = import_tree(tmp_path, files, 'detection')
    assert summary.classes == ['class_0', 'class_2']
    assert coco_objects(out, 'val') == {'b.jpg': [('class_0', [0, 0, 50, 50], None)]}


def test_roboflow_yaml_with_paths_from_elsewhere(tmp_path):
    files = {
        'data.yaml': 'train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ["cell"]\n',
        'train/images/a.jpg': (100, 100),
        'train/labels/a.txt': '0 0.5 0.5 0.5 0.5',
        'valid/images/b.jpg': (100, 100),
        'valid/labels/b.txt': '0 0.5 0.5 0.5 0.5',
    }
    summary, _ = import_tree(tmp_path, files, 'detection')
    assert [s['objects'] for s in summary.splits.values()] == [1, 1]


def test_yolo_polygons_and_key_points(tmp_path):
    files = YOLO_IMAGES | {
        'data.yaml': 'names: [cup]\nkpt_shape: [2, 3]\n',
        'labels/train/a.txt': '0 0.1 0.1 0.5 0.1 0.5 0.9\n',
        'labels/val/b.txt': '0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.2 0.2 1\n',
    }
    _, out = import_tree(tmp_path, files, 'detection')
    objects = coco_objects(out)
    ((_, box, polygons),) = objects['a.jpg']
    np.testing.assert_allclose(box, [20, 10, 80, 80])
    np.testing.assert_allclose(polygons, [[20, 10, 100, 10, 100, 90]])
    np.testing.assert_allclose(objects['b.jpg'][0][1], [40, 20, 20, 10])


def test_yolo_oriented_boxes(tmp_path):
    files = YOLO_IMAGES | {
        'data.yaml': 'names: [ship]',
        'labels/train/a.txt': '0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n',
        'labels/val/b.txt': '0 0.2 0.2 0.4 0.4 0.2 0.6 0.0 0.4\n',
    }
    _, out = import_tree(tmp_path, files, 'rotated-detection')
    objects = dota_objects(out)
    assert objects['a'] == [('ship', [20, 20, 60, 20, 60, 60, 20, 60], 0)]
    assert objects['b'] == [('ship', [20, 10, 40, 20, 20, 30, 0, 20], 0)]


def test_yolo_in_upper_case_with_a_byte_order_mark(tmp_path):
    files = {'Images/train/a.JPG': (100, 100), 'Images/val/a.JPG': (100, 100)}
    files['Labels/train/a.TXT'] = '\ufeff0 0.5 0.5 0.2 0.4\r\n'
    files['Labels/val/a.TXT'] = '\ufeff1 0.5 0.5 0.4 0.2\r\n'
    _, out = import_tree(tmp_path, files, 'detection')
    found = {s: coco_objects(out, s)['a.JPG'] for s in ('train', 'val')}
    assert [name for ((name, _, _),) in found.values()] == ['class_0', 'class_1']
    np.testing.assert_allclose(
        [box for ((_, box, _),) in found.values()], [[40, 30, 20, 40], [30, 40, 40, 20]]
    )


def test_yolo_with_two_lists_of_names(tmp_path):
    files = {f'{n}/images/{n}.jpg': (10, 10) for n in 'ab'}
    files |= {f'{n}/labels/{n}.txt': '0 0.5 0.5 0.2 0.4' for n in 'ab'}
    files |= {'a/labels/classes.txt': 'cup\npen\n', 'b/labels/classes.txt': 'pen\ncup\n'}
    message = 'different class names: a/labels/classes.txt, b/labels/classes.txt'
    with pytest.raises(UserError, match=message):
        import_tree(tmp_path, files, 'detection')
    (tmp_path / 'source/b/labels/classes.txt').write_text('cup\npen')
    assert import_data(tmp_path / 'source', 'detection', tmp_path / 'out').classes == ['cup', 'pen']


# XML


def voc(name, objects, size=(200, 100), database='Unknown'):
    return (
        f'<annotation><folder>x</folder><filename>{name}</filename><source><database>{database}'
        f'</database></source><size><width>{size[0]}</width><height>{size[1]}</height><depth>3'
        f'</depth></size><segmented>0</segmented>{objects}</annotation>'
    )


def voc_box(label, *corners, difficult=0):
    names = ('xmin', 'ymin', 'xmax', 'ymax')
    tags = ''.join(f'<{n}>{v}</{n}>' for n, v in zip(names, corners, strict=True))
    return (
        f'<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated>'
        f'<difficult>{difficult}</difficult><bndbox>{tags}</bndbox></object>'
    )


@pytest.mark.parametrize(
    ('database', 'expected'),
    [('Unknown', [11, 21, 40, 30]), ('The VOC2007 Database', [10, 20, 41, 31])],
)
def test_voc_with_image_sets(tmp_path, database, expected):
    files = {f'JPEGImages/{name}.jpg': (200, 100) for name in 'abc'}
    box = voc_box('cup', 11, 21, 51, 51, difficult=1)
    files |= {f'Annotations/{n}.xml': voc(f'{n}.jpg', box, database=database) for n in 'abc'}
    files |= {'ImageSets/Main/train.txt': 'a\n', 'ImageSets/Main/val.txt': 'b\nd\n'}
    files |= {'JPEGImages/d.jpg': (200, 100)}
    files['ImageSets/Main/cup_train.txt'] = 'a  1\n'
    summary, out = import_tree(tmp_path, files, 'detection')
    objects = coco_objects(out)
    assert objects.pop('d.jpg') == []  # listed, but without a file
    assert objects == {n: [('cup', expected, None)] for n in ('a.jpg', 'b.jpg')}
    assert kinds(summary)['left out', 'not in the lists of ImageSets'] == 1
    assert '"difficult": 1' in (out / 'annotations/train.json').read_text()


def test_voc_lists_with_spaces_folders_and_numbers(tmp_path):
    names = ['a b', 'x/c', 'y/c', 'd', 'e 7']
    files = {f'JPEGImages/{n}.jpg': (200, 100) for n in names}
    for name in names:
        box = voc_box(name.replace('/', ''), 1, 2, 11, 22)
        files[f'Annotations/{name}.xml'] = voc(f'{name}.jpg', box)
    files['ImageSets/Layout/train.txt'] = '"a b" 1\nx/c\ne 7\n'  # as Datumaro quotes names
    files['ImageSets/Layout/val.txt'] = 'y/c\nd 1\n'
    summary, out = import_tree(tmp_path, files, 'detection')
    assert [s['images'] for s in summary.splits.values()] == [3, 2]
    labels = [[o[0][0] for o in coco_objects(out, s).values()] for s in ('train', 'val')]
    assert labels == [['a b', 'e 7', 'xc'], ['d', 'yc']]


def test_turned_boxes_of_cvat_in_voc_and_coco(tmp_path):
    """CVAT writes the upright box and its rotation in degrees, clockwise."""
    attributes = '<attributes><attribute><name>rotation</name><value>90.0</value></attribute>'
    box = voc_box('cup', 10, 20, 50, 40).replace('</object>', f'{attributes}</attributes></object>')
    entry = dict(id=1, image_id=1, category_id=1, bbox=[10, 20, 40, 20], area=800, iscrowd=0)
    entry |= dict(segmentation=[], attributes=dict(occluded=False, rotation=90.0))
    coco = dict(
        images=[dict(id=1, file_name='a.jpg', width=200, height=100)],
        annotations=[entry],
        categories=[dict(id=1, name='cup')],
    )
    sources = [{'a.xml': voc('a.jpg', box)}, {'annotations/instances_default.json': coco}]
    for index, files in enumerate(sources):
        folder = tmp_path / str(index)
        _, out = import_tree(folder, files | {'a.jpg': (200, 100)}, 'detection')
        np.testing.assert_allclose(coco_objects(out)['a.jpg'][0][1], [20, 10, 20, 40])
        import_data(folder / 'source', 'rotated-detection', folder / 'rotated')
        ((_, corners, _),) = dota_objects(folder / 'rotated')['a']
        np.testing.assert_allclose(corners, [40, 10, 40, 50, 20, 50, 20, 10])


def test_voc_files_that_name_another_image(tmp_path):
    """Copied files keep the <filename> of the original."""
    files = {f'images/{n}.jpg': (200, 100) for n in 'ab'}
    files |= {f'xml/{n}.xml': voc('b.jpg', voc_box(n, 1, 2, 11, 22)) for n in 'ab'}
    summary, out = import_tree(tmp_path, files, 'detection')
    objects = coco_objects(out)
    assert {name: entries[0][0] for name, entries in objects.items()} == {
        'a.jpg': 'a',
        'b.jpg': 'b',
    }
    assert kinds(summary)['changed', 'XML file that names another image'] == 1


def test_deleted_objects_of_old_labelme(tmp_path):
    points = ''.join(f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in [(1, 2), (9, 2), (9, 7)])
    polygon = f'<polygon><username>me</username>{points}</polygon>'
    objects = ''.join(
        f'<object><name>{name}</name><deleted>{deleted}</deleted>{polygon}</object>'
        for name, deleted in (('cup', 0), ('pen', 1))
    )
    files = {'Images/a.png': (20, 10), 'Annotations/a.xml': voc('a.png', objects, (20, 10))}
    summary, out = import_tree(tmp_path, files, 'instance-segmentation')
    assert coco_objects(out)['a.png'] == [('cup', [1, 2, 8, 5], [[1, 2, 9, 2, 9, 7]])]
    assert summary.classes == ['cup']


def test_roboflow_voc_beside_the_images(tmp_path):
    files = {
        'train/a.jpg': (200, 100),
        'train/a.xml': voc('a.jpg', voc_box('cup', 10.5, 20, 50, 60)),
        'valid/b.jpg': (200, 100),
        'valid/b.xml': voc('C:\\data\\b.jpg', ''),
    }
    _, out = import_tree(tmp_path, files, 'detection')
    assert coco_objects(out) == {'a.jpg': [('cup', [10.5, 20, 39.5, 40], None)], 'b.jpg': []}


def test_rolabelimg(tmp_path):
    rotated = (
        '<object><type>robndbox</type><name>car</name><robndbox><cx>100</cx><cy>50</cy><w>40</w>'
        f'<h>20</h><angle>{math.pi / 2}</angle></robndbox></object>'
        '<object><type>bndbox</type><name>car</name><bndbox><xmin>1</xmin><ymin>2</ymin>'
        '<xmax>11</xmax><ymax>12</ymax></bndbox></object>'
    )
    files = {f'{name}.jpg': (200, 100) for name in 'ab'}
    files |= {f'{name}.xml': voc(name, rotated) for name in 'ab'}
    summary, out = import_tree(tmp_path, files, 'rotated-detection')
    assert summary.format == 'rolabelimg'
    for objects in dota_objects(out).values():
        # A quarter turn clockwise brings the left upper corner to the right upper one.
        np.testing.assert_allclose(objects[0][1], [110, 30, 110, 70, 90, 70, 90, 30], atol=1e-3)
        assert objects[1] == ('car', [1, 2, 11, 2, 11, 12, 1, 12], 0)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>pen</name></label><label><name>cup</name></label></labels></task>
</meta>
<image id="0" name="a.jpg" width="200" height="100">
 <box label="cup" source="manual" occluded="0" xtl="10.5" ytl="20" xbr="50" ybr="60" z_order="0">
  <attribute name="full">true</attribute></box>
 <box label="cup" occluded="0" xtl="80" ytl="40" xbr="120" ybr="60" rotation="90.0" z_order="0"/>
 <polygon label="pen" occluded="0" points="10,10;30,10;30,40" z_order="0"/>
 <mask label="pen" occluded="0" rle="1, 3, 2" left="5" top="7" width="3" height="2" z_order="0"/>
 <ellipse label="pen" occluded="0" cx="100" cy="50" rx="20" ry="10" z_order="0"/>
 <polyline label="pen" occluded="0" points="1,1;2,2" z_order="0"/>
</image>
<image id="1" name="b.jpg" width="200" height="100"><tag label="cup" source="manual"/></image>
</annotations>"""


def test_cvat(tmp_path):
    files = {'annotations.xml': CVAT, 'images/a.jpg': (200, 100), 'images/b.jpg': (200, 100)}
    summary, out = import_tree(tmp_path, files, 'detection', split=(0.5, 0.5))
    assert summary.classes == ['pen', 'cup']
    objects = coco_objects(out)['a.jpg']
    assert [name for name, _, _ in objects] == ['cup', 'cup', 'pen', 'pen', 'pen']
    np.testing.assert_allclose(
        [box for _, box, _ in objects],
        [
            [10.5, 20, 39.5, 40],
            [90, 30, 20, 40],
            [10, 10, 20, 30],
            [5, 7, 3, 2],
            [80, 40, 40, 20],
        ],
        atol=1e-9,
    )
    assert objects[2][2] == [[10, 10, 30, 10, 30, 40]]
    expected = np.zeros((100, 200), bool)
    expected[[7, 7, 8], [6, 7, 5]] = True  # runs 1, 3, 2 in rows of three
    np.testing.assert_array_equal(decode(objects[3][2]), expected)
    assert kinds(summary)['left out', 'not an object'] == 1


SKELETON = """<label><name>body</name><type>skeleton</type></label>
<label><name>head</name><type>points</type><parent>body</parent></label>"""


def test_cvat_skeletons_and_shapes_without_label(tmp_path):
    text = CVAT.replace('</labels>', f'{SKELETON}</labels>').replace(
        '<polyline label="pen"',
        '<skeleton label="body" points=""><points label="head" points="5,5"/></skeleton>'
        '<polygon label="" points="1,1;5,1;5,5"/><polyline label="pen"',
    )
    files = {'annotations.xml': text, 'images/a.jpg': (200, 100), 'images/b.jpg': (200, 100)}
    summary, _ = import_tree(tmp_path, files, 'detection')
    assert summary.classes == ['pen', 'cup', 'body']
    assert kinds(summary)['left out', 'not an object'] == 3


def cvat_track(label, *shapes):
    return f'<track id="0" label="{label}" source="manual">{"".join(shapes)}</track>'


def test_cvat_video(tmp_path):
    def box(frame, corners, outside=0):
        names = ('xtl', 'ytl', 'xbr', 'ybr')
        numbers = ' '.join(f'{n}="{v}"' for n, v in zip(names, corners, strict=True))
        return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {numbers}/>'

    tracks = cvat_track('cup', box(4, [1.5, 2, 11, 22]), box(6, [2, 2, 12, 22], outside=1))
    tracks += cvat_track('pen', box(4, [5, 5, 9, 9]), box(6, [6, 5, 10, 9]))
    points = '<points frame="4" outside="0" keyframe="1" points="5,5"/>'
    skeleton = '<skeleton frame="4" outside="0" keyframe="1" points="5,5"/>'
    tracks += cvat_track('body', skeleton, cvat_track('head', points))
    labels = '<label><name>cup</name></label><label><name>pen</name></label>'
    text = (
        f'<annotations><version>1.1</version><meta><task><labels>{labels}{SKELETON}</labels>'
        '<original_size><width>40</width><height>30</height></original_size></task></meta>'
        f'{tracks}</annotations>'
    )
    files = {f'images/frame_{n:06d}.PNG': (40, 30) for n in (4, 6, 8)} | {'annotations.xml': text}
    summary, out = import_tree(tmp_path, files, 'detection', split=(0.5, 0.5))
    assert summary.classes == ['cup', 'pen', 'body']
    assert coco_objects(out) == {
        'frame_000004.PNG': [('cup', [1.5, 2, 9.5, 20], None), ('pen', [5, 5, 4, 4], None)],
        'frame_000006.PNG': [('pen', [6, 5, 4, 4], None)],
        'frame_000008.PNG': [],
    }
    assert kinds(summary)['left out', 'not an object'] == 1
    with pytest.raises(UserError, match='no frames such as frame_000000'):
        import_tree(tmp_path / 'no_frames', {'a.xml': text, 'a.png': (40, 30)}, 'detection')


def test_rotated_boxes_of_masks_reach_around_their_pixels(tmp_path):
    files = {'annotations.xml': CVAT, 'images/a.jpg': (200, 100), 'images/b.jpg': (200, 100)}
    files['annotations.xml'] = CVAT.replace('rle="1, 3, 2"', 'rle="0, 3, 3"')  # 3 x 1 pixels
    _, out = import_tree(tmp_path, files, 'rotated-detection', split=(0.5, 0.5))
    corners = np.reshape(dota_objects(out)['a'][3][1], (4, 2))
    np.testing.assert_allclose([corners.min(0), corners.max(0)], [[5, 7], [8, 8]], atol=1e-4)


def test_a_box_with_swapped_corners_has_no_area(tmp_path):
    files = {'annotations.xml': CVAT, 'images/a.jpg': (200, 100), 'images/b.jpg': (200, 100)}
    files['annotations.xml'] = CVAT.replace('xtl="10.5"', 'xtl="60"')
    for task in ('detection', 'rotated-detection'):
        summary, _ = import_tree(tmp_path / task, files, task, split=(0.5, 0.5))
        assert kinds(summary)['left out', 'box without an area'] == 1


# JSON


def test_coco_with_text_ids_gaps_crowds_and_nested_names(tmp_path):
    runs = dict(size=[50, 100], counts=[0, 50, 4950])
    content = dict(
        images=[
            dict(id='i7', file_name='/home/me/photos/a.jpg', width=100, height=50),
            dict(id='i9', file_name='sub/a.jpg', width=100, height=50),
        ],
        annotations=[
            dict(id=5, image_id='i7', category_id=90, bbox=[1.25, 2, 30.1, 4.7], area=7.5),
            dict(id=6, image_id='i9', category_id=3, bbox=[0, 0, 1, 50], iscrowd=1, area=50)
            | dict(segmentation=runs),
            dict(id=7, image_id='i7', category_id=4, bbox=[0, 0, 1, 1]),
        ],
        categories=[dict(id=90, name='pen'), dict(id=3, name='cup')],
    )
    empty = dict(images=[dict(id=1, file_name='b.jpg')], annotations=[], categories=[])
    files = {
        'annotations/instances_train2017.json': content,
        'annotations/instances_val2017.json': empty,
        'photos/a.jpg': (100, 50),
        'pictures/sub/a.jpg': (100, 50),
        'b.jpg': (10, 10),
    }
    summary, out = import_tree(tmp_path, files, 'detection')
    assert summary.classes == ['cup', 'pen']
    objects = coco_objects(out)
    assert objects['photos_a.jpg'] == [('pen', [1.25, 2, 30.1, 4.7], None)]
    assert objects['pictures_sub_a.jpg'] == [('cup', [0, 0, 1, 50], runs)]
    assert kinds(summary)['left out', 'annotation of an unknown category'] == 1
    assert kinds(summary)['changed', 'several images of one name'] == 2


def test_coco_instances_beside_captions_and_key_points(tmp_path):
    """The folder ``annotations`` of COCO, whose files describe the same images."""
    entry = dict(id=1, image_id=1, category_id=3, bbox=[1, 2, 3, 4], area=12, iscrowd=0)

    def content(entries, *categories):
        images = [dict(id=1, file_name='1.jpg', width=100, height=50)]
        names = [dict(id=index, name=name) for index, name in categories]
        return dict(images=images, annotations=entries, categories=names)

    caption = content([dict(id=1, image_id=1, caption='a cup')])
    points = dict(entry, category_id=1, keypoints=[1, 2, 2], num_keypoints=1)
    files = {
        'annotations/captions_val2017.json': caption,
        'annotations/instances_val2017.json': content([entry], (1, 'person'), (3, 'cup')),
        'annotations/person_keypoints_val2017.json': content([points], (1, 'person')),
        'val2017/1.JPG': (100, 50),
    }
    summary, out = import_tree(tmp_path, files, 'detection')
    assert coco_objects(out, 'val') == {'1.JPG': [('cup', [1, 2, 3, 4], None)]}
    assert kinds(summary)['note', 'file of another task beside COCO instances'] == 2
    message = r'file without boxes and outlines \(such as captions.json\)'
    with pytest.raises(UserError, match=message):
        import_tree(tmp_path / 'b', {'captions.json': caption, '1.jpg': (100, 50)}, 'detection')


def test_roboflow_coco(tmp_path):
    def content(name):
        return dict(
            images=[dict(id=0, file_name=name, width=100, height=50)],
            annotations=[dict(id=0, image_id=0, category_id=1, bbox=[1, 2, 3, 4], area=12)],
            categories=[
                dict(id=0, name='cells', supercategory='none'),
                dict(id=1, name='RBC', supercategory='cells'),
            ],
        )

    files = {
        'train/_annotations.coco.json': content('a.jpg'),
        'train/a.jpg': (100, 50),
        'valid/_annotations.coco.json': content('b.jpg'),
        'valid/b.jpg': (100, 50),
    }
    summary, out = import_tree(tmp_path, files, 'detection')
    assert summary.classes == ['RBC']
    assert coco_objects(out, 'val') == {'b.jpg': [('RBC', [1, 2, 3, 4], None)]}


def test_roboflow_csv(tmp_path):
    header = 'filename,width,height,class,xmin,ymin,xmax,ymax\n'
    files = {
        'train/_annotations.csv': header + 'a.jpg,100,50,cup,1,2,11,22\na.jpg,100,50,pen,5,5,9,9\n',
        'train/a.jpg': (100, 50),
        'valid/_annotations.csv': header + 'b.jpg,100,50,cup,0,0,100,50\n',
        'valid/b.jpg': (100, 50),
    }
    _, out = import_tree(tmp_path, files, 'detection')
    assert coco_objects(out) == {
        'a.jpg': [('cup', [1, 2, 10, 20], None), ('pen', [5, 5, 4, 4], None)],
        'b.jpg': [('cup', [0, 0, 100, 50], None)],
    }


def labelme_shape(label, kind, points, group=None, **more):
    return dict(label=label, shape_type=kind, points=points, group_id=group, flags={}) | more


def test_labelme(tmp_path):
    mask = np.array([[0, 1], [1, 1], [0, 1]], bool)
    shapes = [
        labelme_shape('cup', 'rectangle', [[50, 40], [10, 20]]),
        labelme_shape('cup', 'polygon', [[1, 1], [9, 1], [9, 5]], group=1),
        labelme_shape('cup', 'polygon', [[20, 1], [29, 1], [29, 5]], group=1),
        labelme_shape('pen', 'circle', [[50, 50], [50, 60]]),
        labelme_shape('pen', 'mask', [[7, 3], [8, 5]], mask=png_text(mask)),
        labelme_shape('pen', 'point', [[7, 3]]),
    ]
    common = dict(version='5.4.1', flags={}, imageData=None, imageHeight=100, imageWidth=200)
    inside = png_text(np.zeros((100, 200)))
    files = {
        'a.json': common | dict(shapes=shapes, imagePath='..\\photos\\a.jpg'),
        'a.jpg': (200, 100),
        'b.json': common | dict(shapes=[], imagePath='gone.png', imageData=inside),
    }
    summary, out = import_tree(tmp_path, files, 'detection', split=(0.5, 0.5))
    objects = coco_objects(out)
    assert objects['b.png'] == []
    first, grouped, circle, masked = objects['a.jpg']
    assert first == ('cup', [10, 20, 40, 20], [[10, 20, 50, 20, 50, 40, 10, 40]])
    assert grouped[1:] == ([1, 1, 28, 4], [[1, 1, 9, 1, 9, 5], [20, 1, 29, 1, 29, 5]])
    assert circle[:2] == ('pen', [40, 40, 20, 20])
    assert masked[1] == [7, 3, 2, 3]
    np.testing.assert_array_equal(decode(masked[2])[3:6, 7:9], mask)
    assert decode(masked[2]).sum() == mask.sum()
    assert kinds(summary)['left out', 'not an object'] == 1


def test_labelme_regions_to_ignore(tmp_path):
    square = [[2, 2], [6, 2], [6, 6], [2, 6]]
    shapes = [
        labelme_shape('cup', 'polygon', [[0, 0], [3, 0], [3, 3], [0, 3]]),
        labelme_shape('__ignore__', 'polygon', square),
    ]
    content = dict(shapes=shapes, imagePath='a.png', imageHeight=8, imageWidth=8, imageData=None)
    summary, out = import_tree(tmp_path, {'a.json': content, 'a.png': (8, 8)}, 'segmentation')
    expected = np.zeros((8, 8), int)
    expected[2:6, 2:6] = 255
    expected[:3, :3] = 1
    (mask,) = (out / 'train/masks').iterdir()
    assert np.asarray(Image.open(mask)).tolist() == expected.tolist()
    assert summary.classes == ['background', 'cup']
    summary = import_data(tmp_path / 'source', 'detection', tmp_path / 'boxes')
    assert summary.classes == ['cup']
    assert kinds(summary)['left out', 'region to ignore'] == 1


def test_rotated_boxes_of_circles_and_ellipses_are_upright(tmp_path):
    shape = labelme_shape('cup', 'circle', [[50, 50], [50, 60]])
    labelme = dict(shapes=[shape], imagePath='a.jpg', imageHeight=100, imageWidth=200)
    ellipse = dict(id=0, type='ellipse', label_id=0, group=0, points=[40, 40, 60, 60])
    item = dict(id='a', annotations=[ellipse], image=dict(path='a.jpg', size=[100, 200]))
    datumaro = dict(info={}, items=[item], categories=dict(label=dict(labels=[dict(name='cup')])))
    for index, files in enumerate([{'a.json': labelme}, {'annotations/default.json': datumaro}]):
        folder = tmp_path / str(index)
        _, out = import_tree(folder, files | {'a.jpg': (200, 100)}, 'rotated-detection')
        assert dota_objects(out)['a'] == [('cup', [40, 40, 60, 40, 60, 60, 40, 60], 0)]


def test_datumaro_skeletons(tmp_path):
    labels = [dict(name='body', parent=''), dict(name='head', parent='body'), dict(name='cup')]
    categories = dict(label=dict(labels=labels), points=dict(items=[dict(label_id=0)]))
    skeleton = dict(id=0, type='skeleton', label_id=0, group=0, points=[1, 2, 2], attributes={})
    box = dict(id=1, type='bbox', label_id=2, group=0, bbox=[1, 2, 3, 4], attributes={})
    item = dict(id='a', annotations=[skeleton, box], image=dict(path='a.jpg', size=[10, 20]))
    files = {'annotations/default.json': dict(info={}, categories=categories, items=[item])}
    summary, _ = import_tree(tmp_path, files | {'images/default/a.jpg': (20, 10)}, 'detection')
    assert summary.classes == ['body', 'cup']


def test_datumaro(tmp_path):
    def entry(kind, label, group=0, **more):
        return dict(id=0, type=kind, label_id=label, group=group, attributes={}, z_order=0) | more

    def content(name, annotations):
        item = dict(id=name, annotations=annotations)
        item['image'] = dict(path=f'{name}.jpg', size=[100, 200])
        labels = [dict(name='cup', parent='', attributes=[]), dict(name='pen', parent='')]
        return dict(info={}, categories=dict(label=dict(labels=labels)), items=[item])

    runs = dict(size=[100, 200], counts=[100, 100, 19800])
    annotations = [
        entry('bbox', 0, bbox=[1.5, 2, 30, 40]),
        entry('bbox', 1, group=3, bbox=[10, 10, 20, 30]),
        entry('polygon', 1, group=3, points=[10, 10, 30, 10, 30, 40]),
        entry('mask', 0, rle=runs),
        entry('points', 0, points=[1, 1]),
        entry('bbox', 5, bbox=[1, 1, 2, 2]),
    ]
    files = {
        'annotations/train.json': content('a', annotations),
        'annotations/val.json': content('b', []),
        'images/train/a.jpg': (200, 100),
        'images/val/b.jpg': (200, 100),
    }
    summary, out = import_tree(tmp_path, files, 'detection')
    assert coco_objects(out) == {
        'a.jpg': [
            ('cup', [1.5, 2, 30, 40], None),
            ('pen', [10, 10, 20, 30], [[10, 10, 30, 10, 30, 40]]),
            ('cup', [1, 0, 1, 100], runs),
        ],
        'b.jpg': [],
    }
    assert kinds(summary)['left out', 'class without a name'] == 1
    assert kinds(summary)['left out', 'not an object'] == 1


# DOTA


def test_dota(tmp_path):
    text = (
        '\ufeffimagesource:GoogleEarth\ngsd:0.146343\n'
        '20.5 10 60 10 60.0 30 20.5 30 small-vehicle 0\n'
        '150 10 210 10 210 30 150 30 ship 1\n1 2 3 4 ship 0\n'
    )
    files = {
        'train/images/P1.png': (200, 100),
        'train/labelTxt/P1.txt': text,
        'val/images/P2.png': (200, 100),
        'val/labelTxt/P2.txt': 'gsd:null\n',
    }
    summary, out = import_tree(tmp_path, files, 'rotated-detection')
    assert dota_objects(out) == {
        'P1': [
            ('small-vehicle', [20.5, 10, 60, 10, 60, 30, 20.5, 30], 0),
            ('ship', [150, 10, 210, 10, 210, 30, 150, 30], 1),
        ],
        'P2': [],
    }
    assert kinds(summary)['left out', 'not an object'] == 1


@pytest.mark.parametrize(
    ('counts', 'reason'),
    [
        ('abc', 'end within a number'),
        ('', 'cover 0 pixels'),
        ('\x00', 'contain the character'),
        ('o', 'end within a number'),
        ([-5, 605], 'a run has the length -5'),
        ([3, 4], 'cover 7 pixels, not 30 x 20'),
        ([0, 10**12], 'cover'),
        ([10.5, 589.5], 'not whole numbers'),
        ([[1, 599]], 'neither a text nor a list'),
        (None, 'neither a text nor a list'),
    ],
)
@pytest.mark.parametrize('task', ['instance-segmentation', 'segmentation', 'detection'])
def test_invalid_run_lengths_cost_only_their_object(tmp_path, counts, reason, task):
    """pycocotools decodes some of them to partial masks, or fails in ways of its own."""
    entry = dict(image_id=1, category_id=1, bbox=[1, 1, 5, 5], area=25, iscrowd=0)
    bad = dict(entry, id=1, segmentation=dict(size=[20, 30], counts=counts))
    good = dict(entry, id=2, segmentation=[[1, 1, 6, 1, 6, 6, 1, 6]])
    coco = dict(
        images=[dict(id=1, file_name='a.jpg', width=30, height=20)],
        annotations=[bad, good],
        categories=[dict(id=1, name='x')],
    )
    summary, _ = import_tree(tmp_path, {'a.json': coco, 'a.jpg': (30, 20)}, task)
    left_out = [finding for finding in summary.findings if finding.action == 'left out']
    assert [finding.kind for finding in left_out] == ['not an object']
    assert reason in left_out[0].detail
    if task != 'segmentation':
        assert summary.splits['train']['objects'] == 1


def test_run_lengths_are_those_of_pycocotools():
    """Texts of random masks, whose runs differ in both directions."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 60, 2)
        mask = rng.random((height, width)) < rng.random()
        rle = coco_masks.encode(np.asfortranarray(mask, np.uint8))
        checked = checked_rle(dict(size=rle['size'], counts=rle['counts'].decode()))
        runs = _read_runs(checked['counts'])
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        np.testing.assert_array_equal(values.reshape(width, height).T, mask)
