"""Results without PyTorch are those of the models."""

import copy
import functools
import itertools
import json
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from paths import ROOT
from PIL import Image
from small_models import DECODED, detector, task_model

from edgenext_mm import inference_model
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import FORMATS, export
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.deployment.mil import Program
from edgenext_mm.errors import UserError
from edgenext_mm.runtime import Model, load

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
    ('classifier', ('preprocess',)),
    ('classifier', ('decode',)),
    ('segmentor', ()),
    ('segmentor', ('preprocess', 'decode')),
    ('ssdlite', ('preprocess', 'decode', 'nms')),
    ('atss', ('decode',)),  # with score factors
    ('rotated', ('decode',)),
    ('rotated-rtmdet', ('decode',)),
]


@pytest.fixture(scope='module')
def file_of(models, images_for, tmp_path_factory):
    """Exports a model once."""

    @functools.cache
    def file(file_format, name, include):
        path = tmp_path_factory.mktemp(file_format) / f'model{FORMATS[file_format].suffix}'
        model = models(name)
        images, shape = images_for(model)[:1], input_shape(model.cfg)
        deviations = export(model, path, file_format, shape, include=include, images=images)
        assert all(d.relative < 1e-4 for d in deviations)
        return path

    return file


@pytest.mark.parametrize(('name', 'include'), ONNX)
def test_results_are_those_of_the_model(name, include, models, file_of):
    model, path = models(name), file_of('onnx', name, include)
    runs = load(path)
    # In whole pixels, padding is the rounded mean; labels are chosen before resizing.
    exact = not include or name == 'classifier'
    for image in photographs():
        expected = inference_model(model, image, score_thr=THRESHOLD)
        for actual in (
            runs(image, score_thr=THRESHOLD),
            inference_model(path, image, score_thr=THRESHOLD),
        ):
            if 'bboxes' in expected:
                assert_same_objects(actual, expected)
            else:
                assert_same_results(actual, expected, 0.999 if exact else 0.95)


OTHERS = [
    ('openvino', 'gfl', ('preprocess', 'decode', 'nms')),
    ('ncnn', 'ssdlite', ('decode',)),
    ('ncnn', 'rotated', ('decode',)),
    ('coreml', 'ssdlite', ('preprocess', 'decode')),
    ('coreml', 'segmentor', ('decode',)),
]


@pytest.mark.parametrize(('file_format', 'name', 'include'), OTHERS)
def test_other_formats_hold_whole_graphs(file_format, name, include, models, file_of):
    model, image = models(name), photographs()[0]
    path = file_of(file_format, name, include)
    expected = inference_model(model, image, score_thr=THRESHOLD)
    results = [inference_model(path, image, score_thr=THRESHOLD)]
    if FORMATS[file_format].runs:
        results.append(load(path)(image, score_thr=THRESHOLD))
    for actual in results:
        if 'bboxes' in expected:
            assert_same_objects(actual, expected)
        else:
            assert_same_results(actual, expected, 0.95)


def test_core_ml_files_of_classifiers_name_the_class(models, images_for, tmp_path):
    ct = pytest.importorskip('coremltools')
    path, model = tmp_path / 'model.mlpackage', copy.deepcopy(models('classifier'))
    names = [f'class {i}' for i in range(10)]
    model.dataset_meta = dict(classes=names)
    image = images_for(model)[0]
    export(model, path, 'coreml', image.shape[2:], include=('decode',), images=[image])
    file = ct.models.MLModel(str(path), skip_model_load=True)
    outputs = Program(file.get_spec(), file.weights_dir)(images=image)
    with torch.no_grad():
        expected = model.head(model.extract_feat(image)).softmax(1)[0]
    assert outputs['classLabel'] == names[expected.argmax()]
    assert outputs['classLabel_probs'] == pytest.approx(
        dict(zip(names, expected.tolist(), strict=True)), abs=1e-5
    )
    result = inference_model(path, photographs()[0])
    assert result['pred_class'] == names[result['pred_label']]


def test_images_of_any_size(models, tmp_path):
    """Padding, the other aspect ratio and the second resizing, to the size of the image."""
    model = models('segmentor')
    export(model, tmp_path / 'm', 'onnx', (128, 128), ('height', 'width'))
    for image in (default_images()[0], default_images()[1][:300, :200]):
        expected = inference_model(model, image)
        assert_same_results(load(tmp_path / 'm.onnx')(image), expected)


def test_large_images_in_tiles(models, file_of):
    image = np.tile(photographs()[0], (2, 2, 1))[:500, :700]
    options = dict(score_thr=THRESHOLD, tile=400, overlap=0.25)
    expected = inference_model(models('rotated'), image, **options)
    runs = load(file_of('onnx', 'rotated', ('decode',)))
    assert_same_objects(runs(image, **options), expected)
    assert expected['bboxes'][:, 0].max() > 400
    with pytest.raises(UserError, match='at least 32 pixels'):
        runs([image], tile=10)


def test_several_images_and_one_that_cannot_be_read(exported, tmp_path):
    runs = load(exported('onnx')[0])
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8\xff')
    first, second, third = runs([photographs()[0], tmp_path / 'broken.jpg', photographs()[1]])
    assert_same_results(first, runs(photographs()[0]))
    assert 'broken.jpg is not an image' in second['error']
    assert third['pred_class'] == runs(photographs()[1])['pred_class']


@pytest.mark.parametrize('file_format', ['onnx', 'openvino'])
@pytest.mark.parametrize('threads', [1, 3])
def test_several_threads_give_the_same_results_in_order(file_format, threads, exported):
    runs = load(exported(file_format)[0], threads)
    shifts = range(0, 100, 20)
    images = [np.roll(image, shift, axis=1) for shift in shifts for image in photographs()]
    endless = itertools.cycle(images)
    found = list(itertools.islice(runs.stream(endless), 2 * len(images)))
    scores = [result['pred_scores'] for result in found]
    np.testing.assert_allclose(scores, [runs(i)['pred_scores'] for i in images] * 2, atol=1e-6)
    assert len({tuple(row.round(4)) for row in scores}) == len(images)


class Described:
    """An opened file with another description."""

    def __init__(self, session, **changes):
        self.session, self.metadata = session, replace(session.metadata, **changes)

    def __call__(self, images, extra=None):
        return self.session(images, extra)


def test_raw_outputs_of_a_detector_need_openmmlab(exported):
    session = load(exported('onnx')[0]).session
    raw = Described(session, results={}, outputs=('cls_score_0', 'bbox_pred_0'))
    with pytest.raises(UserError, match=r'cls_score_0.*--include decode'):
        Model(raw, 'm.onnx')


def test_files_for_pytorch_are_refused(exported):
    with pytest.raises(UserError, match=r'torchscript cannot be run without PyTorch.*onnx'):
        load(exported('torchscript')[0])


def test_images_larger_than_a_file_takes_are_refused(file_of):
    session = load(file_of('onnx', 'segmentor', ())).session
    with pytest.raises(UserError, match=r'up to 64x64 pixels.*--dynamic'):
        Model(Described(session, shape=(64, 64)), 'm.onnx')(photographs()[0])


# A LiteRT file, in whole pixels, of a classifier with 26,000 parameters, and the model's scores.
LITERT = ROOT / 'tests/data/classifier.tflite'
SCORES = json.loads(LITERT.with_suffix('.json').read_text())['pred_scores']


def test_a_litert_file():
    for run in (load(LITERT, threads=1), functools.partial(inference_model, LITERT)):
        for image, scores in zip(default_images(), SCORES, strict=True):
            np.testing.assert_allclose(run(image)['pred_scores'], scores, atol=1e-5)


# Where PyTorch is not installed.

#: The only packages there, by their folders: NumPy, Pillow, and the runtimes with what they need.
INSTALLED = (
    'numpy', 'numpy.libs', 'PIL', 'pillow.libs', 'onnxruntime', 'google', 'flatbuffers',
    'ai_edge_litert', 'backports', 'ml_dtypes', 'tqdm',
)  # fmt: skip


@pytest.fixture(scope='module')
def bare_python(tmp_path_factory):
    """An environment with the distribution edgenext_mm_runtime and few packages."""
    folder = tmp_path_factory.mktemp('bare')
    for name in ('edgenext_mm', 'runtime'):
        ignored = shutil.ignore_patterns('.mim', '__pycache__', 'build', '*.egg-info')
        shutil.copytree(ROOT / name, folder / 'source' / name, ignore=ignored)
    pip = [sys.executable, '-m', 'pip']
    options = ['--no-deps', '--no-index', '-q']
    wheel = [*pip, 'wheel', *options, '--no-build-isolation', '-w', folder]
    subprocess.run([*wheel, folder / 'source' / 'runtime'], check=True, capture_output=True)
    (built,) = folder.glob('*.whl')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder / 'env'], check=True)
    python = folder / 'env' / 'bin' / 'python'
    subprocess.run([*pip, '--python', python, 'install', *options, built], check=True)
    (site,) = (folder / 'env' / 'lib').glob('python*/site-packages')
    for name in INSTALLED:
        source = Path(sysconfig.get_path('purelib'), name)
        if source.is_dir():
            (site / name).symlink_to(source)
    return python


def run_bare(python, *arguments, status=0):
    done = subprocess.run(
        [python, *map(str, arguments)], capture_output=True, text=True, cwd=python.parents[2]
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.parametrize('library', ['torch', 'mmengine', 'cv2', 'scipy'])
def test_the_environment_is_bare(library, bare_python):
    message = run_bare(bare_python, '-c', f'import {library}', status=1)
    assert f"No module named '{library}'" in message


def test_the_distribution_holds_the_runtime_alone(bare_python):
    code = 'import edgenext_mm, os; print(*sorted(os.listdir(edgenext_mm.__path__[0])))'
    listed = run_bare(bare_python, '-c', code).split()
    assert [n for n in listed if n != '__pycache__'] == [
        '__init__.py', 'errors.py', 'files.py', 'py.typed', 'runtime', 'version.py',
    ]  # fmt: skip
    message = run_bare(bare_python, '-c', 'from edgenext_mm import load_model', status=1)
    assert 'cannot import name' in message


@pytest.mark.parametrize(
    ('name', 'include'),
    [
        ('classifier', ('preprocess',)),
        ('segmentor', ()),
        ('ssdlite', ('preprocess', 'decode', 'nms')),
        ('rotated', ('decode',)),
    ],
)
def test_every_task_without_pytorch(name, include, models, file_of, bare_python, tmp_path):
    path, model, photograph = file_of('onnx', name, include), models(name), photographs()[0]
    Image.fromarray(photograph[..., ::-1]).save(tmp_path / 'a.png')
    printed = run_bare(
        bare_python, '-m', 'edgenext_mm.runtime', path, tmp_path / 'a.png', '--json',
        '--score-thr', THRESHOLD,
    )  # fmt: skip
    actual = json.loads(printed)
    expected = inference_model(model, photograph, score_thr=THRESHOLD)
    if 'bboxes' in expected:
        actual = {k: np.array(v) for k, v in actual.items() if k in ('bboxes', 'scores', 'labels')}
        assert_same_objects(actual, expected)
    elif 'sem_seg' in expected:
        for label, runs in actual['sem_seg'].items():
            counts = runs['counts']
            mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(400, 400).T
            assert (mask == (expected['sem_seg'] == int(label))).mean() > 0.999
    else:
        np.testing.assert_allclose(actual['pred_scores'], expected['pred_scores'], atol=1e-4)


def test_litert_without_pytorch(bare_python, tmp_path):
    Image.fromarray(default_images()[0][..., ::-1]).save(tmp_path / 'a.png')
    arguments = ['-m', 'edgenext_mm.runtime', LITERT, tmp_path / 'a.png', '--json']
    actual = json.loads(run_bare(bare_python, *arguments))
    np.testing.assert_allclose(actual['pred_scores'], SCORES[0], atol=1e-3)


def test_folders_and_large_images_without_pytorch(file_of, bare_python, tmp_path):
    path = file_of('onnx', 'ssdlite', ('preprocess', 'decode', 'nms'))
    for i, image in enumerate(photographs()):
        Image.fromarray(image[..., ::-1]).save(tmp_path / f'{i}.png')
    options = ['--json', '--tile', 200, '--score-thr', THRESHOLD]
    printed = run_bare(bare_python, '-m', 'edgenext_mm.runtime', path, tmp_path, *options)
    results = [json.loads(line) for line in printed.splitlines()]
    assert [Path(result['image']).name for result in results] == ['0.png', '1.png', '2.png']
    expected = load(path)(photographs()[0], score_thr=THRESHOLD, tile=200)
    actual = {k: np.array(results[0][k]) for k in ('bboxes', 'scores', 'labels')}
    assert_same_objects(actual, expected)
    assert len(load(path)(tmp_path)) == 3
    error = run_bare(bare_python, '-m', 'edgenext_mm.runtime', path, 'street.mp4', status=1)
    assert 'Reading videos needs the package opencv-python-headless' in error


WITHOUT_PYTORCH = """
import runpy, sys
sys.modules['torch'] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_the_tool_runs_a_file_without_pytorch(file_of, tmp_path):
    path = file_of('onnx', 'ssdlite', ('preprocess', 'decode', 'nms'))
    Image.fromarray(photographs()[0][..., ::-1]).save(tmp_path / 'a.png')
    arguments = [ROOT / 'tools/infer.py', path, tmp_path, '--json', '--threads', 1]
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_PYTORCH, *map(str, arguments)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    expected = inference_model(path, tmp_path / 'a.png')
    np.testing.assert_allclose(result['scores'], expected['scores'], atol=1e-5)


def test_errors_of_the_command(file_of, bare_python, tmp_path):
    path = file_of('onnx', 'classifier', ('preprocess',))
    (tmp_path / 'broken.png').write_bytes(b'no image')
    for arguments, message in [
        ([tmp_path / 'none.onnx', 'a.png'], 'none.onnx does not exist'),
        ([path.with_suffix('.pth'), 'a.png'], 'Their names end with .onnx'),
        ([path.with_suffix('.xml'), 'a.png'], 'does not exist'),
    ]:
        error = run_bare(bare_python, '-m', 'edgenext_mm.runtime', *arguments, status=1)
        assert error.startswith('error: ')
        assert message in error
    done = subprocess.run(
        [bare_python, '-m', 'edgenext_mm.runtime', path, tmp_path / 'broken.png'],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'broken.png is not an image that Pillow can read' in done.stdout


def test_a_runtime_that_is_not_installed_is_named(bare_python, tmp_path):
    path = tmp_path / 'm.xml'
    path.write_text('<net/>')
    error = run_bare(bare_python, '-m', 'edgenext_mm.runtime', path, 'a.png', status=1)
    assert 'needs the package openvino' in error
    assert 'pip install openvino' in error


# The example in C++.


@pytest.fixture(scope='module')
def cpp_example(tmp_path_factory):
    if shutil.which('cmake') is None:
        pytest.skip('CMake is not installed')
    folder = tmp_path_factory.mktemp('cpp')
    source, cmake = ROOT / 'examples/cpp', Path(openvino.__path__[0], 'cmake')
    for command in (['-B', folder, '-S', source, f'-DOpenVINO_DIR={cmake}'], ['--build', folder]):
        done = subprocess.run(['cmake', *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / 'edgenext'


def run_example(program, *arguments, status=0):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_cpp_example_on_a_detector(cpp_example, models, file_of, tmp_path):
    path = file_of('openvino', 'gfl', ('preprocess', 'decode', 'nms'))
    photograph = photographs()[1]  # of the size of the input
    Image.fromarray(photograph[..., ::-1]).save(tmp_path / 'a.ppm')
    lines = run_example(cpp_example, path, tmp_path / 'a.ppm', '2').splitlines()
    rows = np.array([line.split() for line in lines], float)
    actual = dict(labels=rows[:, 0].astype(int), scores=rows[:, 1], bboxes=rows[:, 2:])
    expected = inference_model(models('gfl'), photograph, score_thr=0)
    assert_same_objects(actual, expected)


def test_cpp_example_on_a_classifier(cpp_example, models, file_of, tmp_path):
    path = file_of('openvino', 'classifier', ('preprocess', 'decode'))
    photograph = photographs()[1][:64, :64]  # of the size of the input
    Image.fromarray(photograph[..., ::-1]).save(tmp_path / 'a.ppm')
    lines = run_example(cpp_example, path, tmp_path / 'a.ppm').splitlines()
    scores = [float(line.split()[1]) for line in lines]
    expected = inference_model(models('classifier'), photograph)['pred_scores']
    assert scores == pytest.approx(expected.tolist(), abs=1e-4)


def test_errors_of_the_cpp_example(cpp_example, file_of, tmp_path):
    path = file_of('openvino', 'gfl', ('preprocess', 'decode', 'nms'))
    (tmp_path / 'a.ppm').write_bytes(b'P6 4 4 255\n123')
    assert 'a.ppm is incomplete' in run_example(cpp_example, path, tmp_path / 'a.ppm', status=1)
    message = run_example(cpp_example, path, LITERT, status=1)
    assert 'is not a PPM image' in message
    assert 'usage' in run_example(cpp_example, status=2)
