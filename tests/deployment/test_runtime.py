"""Results without PyTorch are those of the models."""

import numpy as np
import pytest
from small_models import DECODED, detector, task_model

from edgenext_mm import inference_model
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import FORMATS, export
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.errors import UserError
from edgenext_mm.runtime import load

THRESHOLD = 0.02


def photographs():
    """Square images, which are not padded, of several sizes."""
    first, second = default_images()
    return [first[:400, :400], second[:128, :128], first[50:150, 50:150]]


def assert_same_results(actual, expected, pixels=0.999):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if key == 'sem_seg':
            assert len(np.unique(value)) > 1
            assert actual[key].shape == value.shape
            assert (actual[key] == value).mean() > pixels
        elif key in ('bboxes', 'scores', 'pred_score', 'pred_scores'):
            assert key == 'pred_score' or len(value) > 0
            np.testing.assert_allclose(actual[key], value, rtol=1e-3, atol=1e-2)
        else:
            assert list(np.atleast_1d(actual[key])) == list(np.atleast_1d(value))


def assert_same_objects(actual, expected, tolerance=0.05):
    """Objects match one to one; those with nearly the same score may be in another order."""
    assert len(actual['scores']) == len(expected['scores']) > 0
    waiting = list(range(len(expected['scores'])))
    for box, score, label in zip(actual['bboxes'], actual['scores'], actual['labels'], strict=True):
        match = min(
            (i for i in waiting if expected['labels'][i] == label),
            key=lambda i: np.abs(expected['bboxes'][i] - box).max(),
        )
        waiting.remove(match)
        np.testing.assert_allclose(expected['bboxes'][match], box, atol=tolerance, rtol=1e-3)
        assert expected['scores'][match] == pytest.approx(score, abs=1e-3)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Models of the tasks, each built once."""
    built = {}

    def model(name):
        if name not in built:
            folder = tmp_path_factory.mktemp(name)
            built[name] = (
                detector(DECODED[name], folder) if name in DECODED else task_model(name, folder)
            )
        return built[name]

    return model


ONNX = [
    ('classifier', ()),
    ('classifier', ('preprocess',)),
    ('segmentor', ()),
    ('segmentor', ('preprocess', 'decode')),
    ('ssdlite', ('preprocess', 'decode', 'nms')),
    ('gfl', ('preprocess', 'decode')),
    ('atss', ('decode',)),  # with score factors
    ('rotated', ('decode',)),
    ('rotated', ('preprocess', 'decode')),
]


@pytest.mark.parametrize(('name', 'include'), ONNX)
def test_results_are_those_of_the_model(name, include, models, images_for, tmp_path):
    model = models(name)
    images, shape = images_for(model)[:1], input_shape(model.cfg)
    deviations = export(model, tmp_path / 'm', 'onnx', shape, include=include, images=images)
    assert all(d.relative < 1e-4 for d in deviations)
    runs = load(tmp_path / 'm.onnx')
    # In whole pixels, padding is the rounded mean; labels are chosen before resizing.
    exact = not include or name == 'classifier'
    for image in photographs():
        expected = inference_model(model, image, score_thr=THRESHOLD)
        for actual in (
            runs(image, score_thr=THRESHOLD),
            inference_model(tmp_path / 'm.onnx', image, score_thr=THRESHOLD),
        ):
            if 'bboxes' in expected:
                assert_same_objects(actual, expected)
            else:
                assert_same_results(actual, expected, 0.999 if exact else 0.95)


OTHERS = [
    ('openvino', 'gfl', ('preprocess', 'decode', 'nms')),
    ('openvino', 'rotated', ('decode',)),
    ('ncnn', 'ssdlite', ('decode',)),
    ('ncnn', 'rotated', ('decode',)),
    ('coreml', 'ssdlite', ('preprocess', 'decode')),
    ('coreml', 'segmentor', ('decode',)),
    ('torch-export', 'rotated', ('preprocess', 'decode')),
]


@pytest.mark.parametrize(('file_format', 'name', 'include'), OTHERS)
def test_other_formats_hold_whole_graphs(file_format, name, include, models, images_for, tmp_path):
    model, image = models(name), photographs()[0]
    path = tmp_path / f'm{FORMATS[file_format].suffix}'
    images, shape = images_for(model)[:1], input_shape(model.cfg)
    deviations = export(model, path, file_format, shape, include=include, images=images)
    assert all(d.relative < 1e-3 for d in deviations)
    expected = inference_model(model, image, score_thr=THRESHOLD)
    results = [inference_model(path, image, score_thr=THRESHOLD)]
    if FORMATS[file_format].runs:
        results.append(load(path)(image, score_thr=THRESHOLD))
    for actual in results:
        if 'bboxes' in expected:
            assert_same_objects(actual, expected)
        else:
            assert_same_results(actual, expected, 0.95)


@pytest.mark.parametrize(('name', 'include'), [('segmentor', ()), ('rotated', ['decode'])])
def test_images_of_any_size(name, include, models, tmp_path):
    """Padding, the other aspect ratio and the second resizing, to the size of the image."""
    model, sizes = models(name), ('height', 'width')
    export(model, tmp_path / 'm', 'onnx', (128, 128), sizes, include=include)
    for image in (default_images()[0], default_images()[1][:300, :200]):
        expected = inference_model(model, image, score_thr=THRESHOLD)
        actual = load(tmp_path / 'm.onnx')(image, score_thr=THRESHOLD)
        (assert_same_objects if 'bboxes' in expected else assert_same_results)(actual, expected)


def test_several_images_and_one_that_cannot_be_read(exported, tmp_path):
    runs = load(exported('onnx')[0])
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8\xff')
    first, second, third = runs([photographs()[0], tmp_path / 'broken.jpg', photographs()[1]])
    assert_same_results(first, runs(photographs()[0]))
    assert 'broken.jpg is not an image' in second['error']
    assert third['pred_class'] == runs(photographs()[1])['pred_class']


def test_raw_outputs_of_a_detector_need_openmmlab(models, tmp_path):
    export(models('ssdlite'), tmp_path / 'm', 'onnx', (128, 128))
    with pytest.raises(UserError, match=r'cls_score_0.*--include decode'):
        load(tmp_path / 'm.onnx')


def test_files_for_pytorch_are_refused(exported):
    with pytest.raises(UserError, match=r'torchscript cannot be run without PyTorch.*onnx'):
        load(exported('torchscript')[0])


def test_images_larger_than_a_file_takes_are_refused(models, tmp_path):
    export(models('segmentor'), tmp_path / 'm', 'onnx', (64, 64))
    with pytest.raises(UserError, match=r'up to 64x64 pixels.*--dynamic'):
        load(tmp_path / 'm.onnx')(photographs()[0])
