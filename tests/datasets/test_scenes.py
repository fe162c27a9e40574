import json
import runpy
from dataclasses import asdict

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from pycocotools import mask as coco_mask
from shapely.geometry import Polygon

from edgenext_mm.datasets import SceneSettings, write_digit_scenes
from edgenext_mm.datasets import scenes as digit_scenes
from edgenext_mm.errors import UserError

SPLITS = ('train', 'val')


def read(root, split):
    """Each scene as image, mask, COCO annotations and DOTA labels."""
    coco = json.loads((root / 'annotations' / f'{split}.json').read_text())
    for image in coco['images']:
        name = image['file_name'].removesuffix('.png')
        labels = (root / split / 'labelTxt' / f'{name}.txt').read_text().splitlines()
        yield (
            np.asarray(Image.open(root / split / 'images' / f'{name}.png')),
            np.asarray(Image.open(root / split / 'masks' / f'{name}.png')),
            [a for a in coco['annotations'] if a['image_id'] == image['id']],
            [line.split() for line in labels],
        )


def decode(annotation, size):
    runs = coco_mask.frPyObjects(annotation['segmentation'], size, size)
    return coco_mask.decode(coco_mask.merge(runs)).astype(bool)


@pytest.mark.parametrize('split', SPLITS)
def test_the_three_formats_say_the_same(scenes_root, split):
    for image, mask, annotations, labels in read(scenes_root, split):
        assert image.shape == (128, 128, 3)
        assert len(annotations) == len(labels) >= 1
        covered = np.zeros_like(mask, bool)
        for annotation, label in zip(annotations, labels, strict=True):
            assert annotation['category_id'] - 1 == int(label[8])
            visible = mask == annotation['category_id']
            outline = decode(annotation, 128)
            assert (outline & visible).sum() >= annotation['area']
            covered |= outline
            x, y, w, h = annotation['bbox']
            rows, columns = np.nonzero(outline)
            # Rasterising can lose a pixel of an outline that runs along pixel borders.
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x, y, x + w, y + h], extent, atol=1)
            assert 0 <= x <= x + w <= 128
            assert 0 <= y <= y + h <= 128
            box = Polygon(np.array(label[:8], float).reshape(4, 2))
            pieces = [Polygon(np.reshape(p, (-1, 2))) for p in annotation['segmentation']]
            assert all(box.buffer(0.75).covers(piece) for piece in pieces)
            sides = [Polygon(box.exterior.coords[i : i + 2] * 2).boundary for i in range(4)]
            assert all(min(p.distance(side) for p in pieces) < 1.5 for side in sides)  # tight
        assert not (mask[~covered] > 0).any()
        assert set(np.unique(mask)) <= {0, *(a['category_id'] for a in annotations)}


def test_digits_stand_out_from_the_photograph(scenes_root):
    """A digit's colour differs by the contrast from the mean of what it covers."""
    differences = []
    for image, mask, annotations, _ in read(scenes_root, 'train'):
        grey = image.mean(axis=2)
        for annotation in annotations:
            inside = mask == annotation['category_id']
            x, y, w, h = annotation['bbox']
            around = np.zeros_like(inside)
            around[max(y - 4, 0) : y + h + 4, max(x - 4, 0) : x + w + 4] = True
            differences.append(abs(grey[inside].mean() - grey[around & (mask == 0)].mean()))
    assert np.median(differences) > digit_scenes.MIN_CONTRAST / 2


def test_train_and_val_share_no_place_of_the_photographs(monkeypatch, tmp_path):
    photograph = np.zeros((427, 640, 3), np.uint8)
    photograph[:, 448:] = 200  # val's columns
    monkeypatch.setattr(digit_scenes, '_load_photographs', lambda: [photograph])
    write_digit_scenes(tmp_path / 'scenes', SceneSettings(num_train=4, num_val=4))
    for split, low, high in (('train', 0, 0), ('val', 120, 220)):  # the brightness varies
        for image, mask, _, labels in read(tmp_path / 'scenes', split):
            far = np.ones_like(mask, bool)
            for label in labels:
                x, y = np.array(label[:8], float).reshape(4, 2).T.round().astype(int)
                far[max(y.min() - 10, 0) : y.max() + 10, max(x.min() - 10, 0) : x.max() + 10] = (
                    False
                )
            assert (image[far] >= low).all()
            assert (image[far] <= high).all()


def test_a_seed_gives_the_same_scenes_again(tmp_path):
    few = dict(num_train=2, num_val=1)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        write_digit_scenes(tmp_path / name, SceneSettings(**few, seed=seed))
    files = [p.relative_to(tmp_path / 'a') for p in (tmp_path / 'a').rglob('*.*')]
    assert len(files) == 3 * 3 + 2 + 1
    for file in files:
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()
    image = 'train/images/0000.png'
    assert (tmp_path / 'a' / image).read_bytes() != (tmp_path / 'c' / image).read_bytes()


def test_a_complete_folder_is_left_alone_and_others_refused(tmp_path):
    settings = SceneSettings(num_train=1, num_val=1)
    root = tmp_path / 'scenes'
    assert write_digit_scenes(root, settings)
    assert not write_digit_scenes(root, settings)
    with pytest.raises(UserError, match=r"contains scenes of other settings: .*'num_train': 1"):
        write_digit_scenes(root, SceneSettings(num_train=2, num_val=1))
    (root / 'train' / 'masks' / '0000.png').unlink()
    with pytest.raises(UserError, match='contains 0 files instead of 1'):
        write_digit_scenes(root, settings)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'thesis.txt').write_text('precious')
    with pytest.raises(UserError, match='contains no digit scenes'):
        write_digit_scenes(tmp_path / 'other', settings)
    assert (tmp_path / 'other' / 'thesis.txt').read_text() == 'precious'


def test_a_failure_leaves_nothing_behind(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(digit_scenes, '_coco', fail)
    with pytest.raises(OSError, match='disk full'):
        write_digit_scenes(tmp_path / 'scenes', SceneSettings(num_train=1, num_val=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(size=32), '`size` must be between 64 and 192, got 32'),
        (dict(num_train=0), '`num_train` must be between 1 and 9999, got 0'),
        (dict(max_digits=50), '`max_digits` must be between 1 and 20, got 50'),
    ],
)
def test_settings_out_of_range_are_errors(setting, message):
    with pytest.raises(UserError, match=message):
        SceneSettings(**setting)


def test_the_tool_writes_what_it_is_asked_for(monkeypatch, capsys, tmp_path):
    out = tmp_path / 'scenes'
    tool = ROOT / 'tools' / 'dataset_converters' / 'digit_scenes.py'
    options = '--num-train 2 --num-val 1 --size 96 --max-digits 2 --seed 7'
    monkeypatch.setattr('sys.argv', [str(tool), '--out', str(out), *options.split()])
    runpy.run_path(str(tool), run_name='__main__')
    assert 'written' in capsys.readouterr().out
    settings = json.loads((out / 'settings.json').read_text())
    assert settings == asdict(SceneSettings(2, 1, 96, 2, 7))
    assert Image.open(out / 'train' / 'images' / '0001.png').size == (96, 96)


def test_train_and_val_share_no_digit(monkeypatch, tmp_path):
    image = np.full((8, 8), 255, np.uint8)
    monkeypatch.setattr(
        digit_scenes, 'load_digits', lambda: [('train', 1, image), ('val', 9, image)]
    )
    write_digit_scenes(tmp_path / 'scenes', SceneSettings(num_train=3, num_val=3))
    for split, expected in (('train', {'1'}), ('val', {'9'})):
        scenes = read(tmp_path / 'scenes', split)
        assert {label[8] for _, _, _, labels in scenes for label in labels} == expected
