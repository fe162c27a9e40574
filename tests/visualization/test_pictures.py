import json

import numpy as np
import pytest
from PIL import Image

from edgenext_mm.errors import UserError
from edgenext_mm.visualization import curves, grid, plot_curves, plot_grid


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


def test_wrong_predictions_come_first_then_an_even_spread():
    names, truths = ['a'] * 100, ['a'] * 100
    truths[70] = 'b'
    assert grid._choose(names, truths, 4) == [70, 0, 49, 99]


def test_unknown_truths_are_not_wrong():
    assert grid._choose(['a', 'b'], [None, None], 8) == [0, 1]


@pytest.mark.parametrize('count', [1, 3, 11])
def test_a_grid_is_a_picture(tmp_path, count):
    images = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(count)]
    results = [dict(pred_label=1, pred_score=0.9, pred_class='cat')] * count
    plot_grid(images, results, ['cat'] * count, tmp_path / 'grid.png')
    assert Image.open(tmp_path / 'grid.png').width > 100
