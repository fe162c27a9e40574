"""The examples for devices, as far as they run here."""

import runpy
import sys

import cv2
import numpy as np
import pytest
from paths import ROOT
from small_models import DECODED, detector, task_model

from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import default_images

LIVE = ROOT / 'examples' / 'raspberry_pi' / 'live.py'


@pytest.mark.parametrize('name', ['classifier', 'segmentor', 'ssdlite', 'rotated'])
def test_pictures_of_a_camera(name, images_for, tmp_path, monkeypatch, capsys):
    """A folder of images in place of the camera."""
    model = detector(DECODED[name], tmp_path) if name in DECODED else task_model(name, tmp_path)
    include = ('preprocess',) if name == 'classifier' else ('preprocess', 'decode')
    options = dict(include=include, images=images_for(model)[:1])
    export(model, tmp_path / 'm.onnx', 'onnx', input_shape(model.cfg), **options)
    folder, picture = tmp_path / 'photographs', tmp_path / 'last.png'
    folder.mkdir()
    photograph = default_images()[0][:300, :300]
    for i in range(3):
        cv2.imwrite(str(folder / f'{i}.png'), photograph)
    options = ['--source', folder, '--picture', picture, '--score-thr', 0.02]
    monkeypatch.setattr(sys, 'argv', list(map(str, [LIVE, tmp_path / 'm.onnx', *options])))
    capsys.readouterr()
    runpy.run_path(str(LIVE), run_name='__main__')
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all('images/s' in line for line in lines[:3])
    assert lines[3] == '3 images'
    drawn = cv2.imread(str(picture))
    assert drawn.shape == photograph.shape
    assert np.any(drawn != photograph, axis=-1).mean() > 0
