import json

import numpy as np
import pytest
from PIL import Image

from edgenext_mm.errors import UserError
from edgenext_mm.visualization import (
    curves,
    picture_names,
    pictures,
    plot_curves,
    plot_grid,
    plot_predictions,
    plot_result,
)
from edgenext_mm.visualization.draw import displayable, draw
from edgenext_mm.visualization.figure import new_figure


def write_log(folder, name, records):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))


def train(iteration, epoch):
    return dict(lr=0.1, loss=1 / iteration, epoch=epoch, iter=iteration, step=iteration)


def val(epoch):
    return {'accuracy/top1': 10.0 * epoch, 'step': epoch}


def test_curves_are_a_picture(tmp_path):
    write_log(tmp_path, '1', [train(10, 1), val(1), train(20, 2), val(2)])
    plot_curves(tmp_path, tmp_path / 'curves.png')
    image = np.asarray(Image.open(tmp_path / 'curves.png').convert('RGB'))
    assert image.shape[1] > 2 * image.shape[0]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10  # lines, not an empty page
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


def test_a_resumed_training_is_one_curve(tmp_path):
    write_log(tmp_path, '1', [train(10, 1), train(20, 2), train(30, 3)])
    write_log(tmp_path, '2', [train(20, 2), train(30, 3), train(40, 4)])
    steps = [r['step'] for r in curves._read_logs(tmp_path)]
    assert steps == [10, 20, 30, 40]


def test_a_new_training_in_the_same_folder_replaces_the_old_curve(tmp_path):
    write_log(tmp_path, '1', [train(10, 1), val(1), train(20, 2)])
    write_log(tmp_path, '2', [train(10, 1), val(1)])
    write_log(tmp_path, '3', [])
    assert len(curves._read_logs(tmp_path)) == 2


def test_no_log_is_an_error(tmp_path):
    with pytest.raises(UserError, match='holds no training log'):
        plot_curves(tmp_path, tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()


def predicted(name):
    return dict(pred_label=1, pred_score=0.9, pred_class=name)


def test_wrong_predictions_come_first_and_others_are_evenly_spread():
    results, truths = [predicted('a')] * 100, ['a'] * 100
    truths[70] = 'b'
    chosen = pictures.choose(results, truths)
    assert len(chosen) == 48
    assert chosen[:2] == [70, 0]
    assert chosen[-1] == 99


def test_unknown_truths_are_not_wrong():
    assert pictures.choose([predicted('a'), predicted('b')], [None, None]) == [0, 1]


@pytest.mark.parametrize('count', [1, 3, 11])
def test_a_grid_is_a_picture(tmp_path, count):
    images = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(count)]
    plot_grid(images, [predicted('cat')] * count, tmp_path / 'grid.png', ['cat'] * count)
    assert Image.open(tmp_path / 'grid.png').width > 100


def read_pixels(path):
    return np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)


@pytest.mark.parametrize(
    'box', [[40, 30, 80, 60], [60, 45, 40, 30, 0.0], [60, 45, 30, 40, np.pi / 2]]
)
def test_boxes_are_drawn_where_they_are(tmp_path, box):
    """Upright and rotated boxes with the same corners have the same outline."""
    result = dict(bboxes=np.array([box], float), labels=np.array([0]), scores=np.array([0.5]))
    plot_result(np.zeros((90, 120, 3), np.uint8), result, tmp_path / 'boxes.png')
    image = np.asarray(Image.open(tmp_path / 'boxes.png').convert('RGB')).astype(int)
    coloured = image.max(2) - image.min(2) > 60
    black = (image == 0).all(2)
    rows, columns = np.nonzero(black | coloured)
    left, top = columns.min(), rows.min()
    scale = (columns.max() + 1 - left) / 120
    rows, columns = np.nonzero(coloured[:, :])
    below = rows > top + scale * 45  # away from the label above the box
    extent = [(columns[below].min() - left), (columns[below].max() + 1 - left)]
    np.testing.assert_allclose(np.array(extent) / scale, [40, 80], atol=1.0)
    assert (rows.max() + 1 - top) / scale == pytest.approx(60, abs=1.0)


@pytest.mark.parametrize('box', [(2, 3, 20, 20), (88, 40, 98, 60), (80, 1, 99, 30)])
def test_names_of_objects_near_a_border_stay_in_the_image(box):
    figure = new_figure(4, 4)
    axis = figure.subplots()
    result = dict(bboxes=np.array([box], float), labels=np.array([0]), classes=['a long name'])
    draw([axis], np.zeros((100, 100, 3), np.uint8), result)
    figure.canvas.draw()
    text, image = axis.texts[0].get_window_extent(), axis.get_window_extent()
    assert image.x0 <= text.x0 < text.x1 <= image.x1
    assert image.y0 <= text.y0 < text.y1 <= image.y1


def test_a_segmented_image_shows_mask_and_legend(tmp_path):
    sem_seg = np.zeros((60, 80), int)
    sem_seg[:, 40:] = 2
    result = dict(sem_seg=sem_seg, classes=('background', 'cat', 'dog'))
    plot_result(np.full((60, 80, 3), 200, np.uint8), result, tmp_path / 'mask.png')
    pixels = read_pixels(tmp_path / 'mask.png')
    green = (pixels == [0, 128, 0]).all(1).sum()  # VOC's colour of value 2
    black = (pixels == [0, 0, 0]).all(1).sum()
    assert green > 20_000
    assert black > 20_000
    assert Image.open(tmp_path / 'mask.png').width > 2 * 500


def test_every_dense_result_gets_a_picture_of_its_own(tmp_path):
    images = [np.zeros((40, 60, 3), np.uint8)] * 3
    result = dict(bboxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    overview, folder = plot_predictions(images, [result] * 3, (), tmp_path)
    assert overview.is_file()
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    'image',
    [
        np.linspace(0, 4095, 60 * 80).reshape(60, 80).astype(np.uint16),
        np.linspace(-7, 9000, 60 * 80).reshape(60, 80, 1).astype(np.float32),
        np.linspace(0, 255, 60 * 80 * 4).reshape(60, 80, 4).astype(np.uint8),
        np.full((60, 80, 6), np.nan, np.float32),
    ],
    ids=['twelve-bits', 'floats', 'alpha', 'bands-without-data'],
)
def test_images_of_any_depth_are_drawn(tmp_path, image):
    results = dict(
        boxes=dict(
            bboxes=np.array([[10.0, 10, 30, 30, 60, 20, 50, 5]]),
            labels=np.array([0]),
            masks=np.ones((1, 60, 80), bool),
        ),
        mask=dict(sem_seg=np.full((60, 80), 300), classes=('background',)),
        labels=dict(pred_labels=np.array([0, 2]), pred_scores=np.array([0.9, 0.1, 0.8])),
    )
    for name, result in results.items():
        plot_result(image, result, tmp_path / f'{name}.png')
        plot_grid([image] * 2, [result] * 2, tmp_path / f'{name}-grid.png')
    assert len(list(tmp_path.iterdir())) == 6


def test_values_are_kept_or_scaled_to_eight_bits():
    twelve_bits = np.array([[[5, 4095]]], np.uint16).transpose(0, 2, 1)
    np.testing.assert_array_equal(displayable(twelve_bits)[0, :, 0], [0, 255])
    eight_bits_changed = np.array([[-20.0, 99.4, 290.0]], np.float32)
    np.testing.assert_array_equal(displayable(eight_bits_changed)[0, :, 2], [0, 99, 255])
    colours = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(displayable(colours), colours[..., :3])


def test_pictures_of_images_with_the_same_name_are_numbered(tmp_path):
    assert picture_names(['x/birds-v1.0', 'birds-v1.1.png']) == ['birds-v1', 'birds-v1.1']
    assert picture_names(['a.jpg', 'a.png']) == ['a.jpg', 'a.png']
    assert picture_names(['x/a.jpg', 'y/a.jpg', 'y/A.jpg']) == ['0000_a', '0001_a', '0002_A']
    for name in picture_names(['http://host/find?name=' + 'x' * 300 + '.png']):
        (tmp_path / f'{name}.png').touch()


def test_a_failing_picture_does_not_affect_the_others(tmp_path):
    images = {name: np.zeros((40, 60, 3), np.uint8) for name in ('a.png', 'b.png', 'c.png')}
    del images['b.png']
    result = dict(bboxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    results = [result, result, dict(error='b'), result]
    sources = ['a.png', 'b.png', 'x.png', 'c.png']
    with pytest.raises(UserError, match=r'2 pictures cannot be drawn: .*predictions/b\.png \(KeyE'):
        plot_predictions(sources, results, (), tmp_path, read=images.__getitem__)
    assert {p.name for p in (tmp_path / 'predictions').iterdir()} == {'a.png', 'c.png'}


def test_pictures_do_not_replace_the_images(tmp_path):
    (tmp_path / 'predictions').mkdir()
    image = tmp_path / 'predictions' / 'a.png'
    image.write_bytes(b'mine')
    result = dict(bboxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    with pytest.raises(UserError, match=r'predictions/a\.png is one of the images; no picture'):
        plot_predictions([str(image)], [result], (), tmp_path)
    assert [path.name for path in tmp_path.rglob('*')] == ['predictions', 'a.png']
    assert image.read_bytes() == b'mine'


def test_a_picture_has_the_given_name(tmp_path):
    write_log(tmp_path / 'work', '1', [train(10, 1), val(1)])
    for name in ('birds-v1.0', 'birds-v1.1', 'birds', 'birds.svg'):
        plot_curves(tmp_path / 'work', tmp_path / 'out' / name)
    assert {p.name for p in (tmp_path / 'out').iterdir()} == {
        *('birds-v1.0', 'birds-v1.1', 'birds', 'birds.svg'),
    }
    assert Image.open(tmp_path / 'out' / 'birds').format == 'PNG'
    assert (tmp_path / 'out' / 'birds.svg').read_text().startswith('<?xml')
