"""Exported files of all tasks and formats give the results of their models."""

import shutil
import subprocess
import sys
import venv

import cv2
import numpy as np
import onnx
import pytest
import torch
from paths import DIGITS_CONFIG
from small_models import task_model

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.deployment import FORMATS, ExportedModel, export
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.deployment.converters import CONVERTERS
from edgenext_mm.deployment.int8 import Int8Settings
from edgenext_mm.errors import UserError
from edgenext_mm.runtime import formats
from edgenext_mm.runtime.formats import format_of
from edgenext_mm.runtime.sessions.openvino import arithmetic, core

ALL_DIMENSIONS = ('batch', 'height', 'width')


def photographs():
    """Two images, and one of another shape."""
    first, second = default_images()
    return [first, second, first[:300, :200]]


# Classification, in every format.


@pytest.fixture(scope='module', params=FORMATS)
def classifier_file(request, exported):
    return exported(request.param)


def test_every_format_agrees_with_the_model(classifier_file, classifier):
    """In batches, too, although the files take one image."""
    path, deviations = classifier_file
    assert format_of(path) is not None
    assert [d.output for d in deviations] == ['logits']
    assert deviations[0].relative < 1e-5
    for batch_size in (1, 3):
        actual = inference_model(path, photographs(), batch_size=batch_size)
        expected = inference_model(classifier, photographs(), batch_size=batch_size)
        for a, e in zip(actual, expected, strict=True):
            assert a['pred_class'] == e['pred_class']
            np.testing.assert_allclose(a['pred_scores'], e['pred_scores'], atol=1e-5)


def test_a_file_describes_itself(classifier_file):
    metadata = ExportedModel(classifier_file[0]).metadata
    assert metadata.task == 'classification'
    assert metadata.classes == tuple('0123456789')
    assert metadata.shape == (64, 64)
    assert metadata.preprocessing['channel_order'] == 'RGB'
    assert metadata.preprocessing['mean'] == [127.5] * 3
    assert any('Resize' in step['type'] for step in metadata.preprocessing['steps'])
    assert set(classifier_file[0].parent.iterdir()) == set(files_of(classifier_file[0]))


def files_of(path):
    return FORMATS[format_of(path)].files(path)


def test_a_truncated_file_is_refused(classifier_file, tmp_path):
    path = classifier_file[0]
    parts = [part for file in files_of(path) for part in (file, *file.rglob('*'))]
    for i, part in enumerate(part for part in parts if part.is_file()):
        copy = tmp_path / str(i)
        shutil.copytree(path.parent, copy)
        truncated = copy / part.relative_to(path.parent)
        truncated.write_bytes(truncated.read_bytes()[: part.stat().st_size // 2])
        with pytest.raises(UserError, match='cannot be read as'):
            ExportedModel(copy / path.name)


@pytest.mark.parametrize('file_format', CONVERTERS)
def test_a_missing_converter_is_an_error_that_says_how_to_install_it(
    file_format, classifier, tmp_path, monkeypatch
):
    monkeypatch.setenv('EDGENEXT_MM_CONVERTERS', str(tmp_path / 'converters'))
    message = rf'environment of its own with `python .*install_converter.py {file_format}`'
    with pytest.raises(UserError, match=message):
        export(classifier, tmp_path / 'out' / 'model', file_format, (64, 64))
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize('file_format', CONVERTERS)
def test_a_converter_that_fails_leaves_nothing(file_format, classifier, tmp_path, monkeypatch):
    """The environment has no packages."""
    monkeypatch.setenv('EDGENEXT_MM_CONVERTERS', str(tmp_path / 'converters'))
    converter = CONVERTERS[file_format]
    venv.create(converter.folder, symlinks=True)
    (converter.folder / 'complete').touch()
    with pytest.raises(
        UserError, match=f'converter {file_format} ended with status 1: .*No module'
    ):
        export(classifier, tmp_path / 'out' / 'model', file_format, (64, 64))
    assert not list((tmp_path / 'out').iterdir())


def test_a_missing_part_of_a_file_is_named(exported, tmp_path):
    path, _ = exported('ncnn')
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r'model\.ncnn\.bin is missing'):
        ExportedModel(tmp_path / path.name)


def test_the_tools_write_and_test_a_file(digits_checkpoint, few_digits, tmp_path, run_tool):
    path = tmp_path / 'model.torchscript'
    data = ['--cfg-options', f'test_dataloader.dataset.data_root={few_digits}']
    done = run_tool(
        'deployment/export.py', DIGITS_CONFIG, digits_checkpoint, '--format', 'torchscript',
        '--out', path, '--evaluate', *data,
    )  # fmt: skip
    assert 'logits: deviation' in done.stdout
    line = next(line for line in done.stdout.splitlines() if 'accuracy/top1' in line)
    _, before, _, after, _ = line.split()
    assert before == after
    done = run_tool('test.py', DIGITS_CONFIG, path, '--work-dir', tmp_path / 'work', *data)
    assert f'accuracy/top1: {before}' in done.stdout + done.stderr


def test_opencv_runs_an_onnx_file_of_the_portable_layout(classifier, images_for, tmp_path):
    images = images_for(classifier)
    path = tmp_path / 'model.onnx'
    export(classifier, path, 'onnx', (64, 64), images=images, layout='portable')
    network = cv2.dnn.readNetFromONNX(str(path))
    for image in images:
        network.setInput(image.numpy())
        with torch.no_grad():
            expected = classifier(image, mode='tensor').numpy()
        np.testing.assert_allclose(network.forward(), expected, atol=1e-5 * abs(expected).max())


# Other precisions.


@pytest.fixture(scope='module')
def tiny_classifier(tmp_path_factory):
    return task_model('classifier', tmp_path_factory.mktemp('tiny'))


@pytest.mark.parametrize('file_format', ['onnx', 'openvino'])
def test_int8_deviates_little(file_format, tiny_classifier, images_for, tmp_path):
    pytest.importorskip('nncf')
    images = images_for(tiny_classifier)
    deviations = export(
        tiny_classifier, tmp_path / 'model', file_format, (64, 64), precision='int8',
        calibration=images * 4, images=images,
    )  # fmt: skip
    assert 1e-4 < deviations[0].relative < 0.2
    if file_format == 'onnx':  # as TensorRT requires: INT8, and all zero points 0
        graph = onnx.load(tmp_path / 'model.onnx').graph
        zeros = {n.input[2] for n in graph.node if n.op_type.endswith('uantizeLinear')}
        constants = [w for w in graph.initializer if w.name in zeros]
        assert {w.data_type for w in constants} == {onnx.TensorProto.INT8}
        assert not any(onnx.numpy_helper.to_array(w).any() for w in constants)
    else:
        ops = core().read_model(tmp_path / 'model.xml').get_ops()
        # Elsewhere, OpenVINO corrupts memory.
        assert [op.get_type_name() for op in ops].count('ScaledDotProductAttention') == 3
        assert are_in_floating_point(ops, 'ScaledDotProductAttention')
        assert are_in_floating_point(ops, 'GroupConvolution')
        assert not are_in_floating_point(ops, 'Convolution')


def are_in_floating_point(ops, kind):
    chosen = [op for op in ops if op.get_type_name() == kind]
    inputs = [value.get_source_output().get_node() for op in chosen for value in op.inputs()]
    assert inputs
    return 'FakeQuantize' not in {node.get_type_name() for node in inputs}


def test_operators_outside_int8_run_as_by_default(exported):
    path, _ = exported('openvino')
    compiled = core().compile_model(path, 'CPU')
    assert arithmetic('int8') == compiled.get_property('INFERENCE_PRECISION_HINT').to_string()
    assert (arithmetic('fp32'), arithmetic('bf16')) == ('f32', 'bf16')


@pytest.mark.parametrize(
    ('file_format', 'precision'),
    [('onnx', 'fp16'), ('openvino', 'fp16'), ('openvino', 'bf16'), ('torchscript', 'bf16')],
)
def test_half_precision(file_format, precision, tiny_classifier, images_for, tmp_path):
    deviations = export(
        tiny_classifier, tmp_path / 'model', file_format, (64, 64), precision=precision,
        images=images_for(tiny_classifier),
    )  # fmt: skip
    assert 0 < deviations[0].relative < 0.05


SIGNALLED = """
import gc, signal, sys
from edgenext_mm.deployment.file_formats import open_session

sessions = [open_session(sys.argv[1]), open_session(sys.argv[1])]
while sessions:
    del sessions[0]
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_files_are_closed(exported):
    """Closed in the order in which they were opened, which leaves OpenVINO's stacks unmapped."""
    command = [sys.executable, '-c', SIGNALLED, str(exported('openvino')[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'handled\n'), done.stderr


# Other tasks, with sizes that change.


@pytest.fixture(
    scope='module',
    params=[('ssdlite', 'openvino'), ('segmentor', 'onnx'), ('rotated', 'onnx')],
    ids='-'.join,
)
def dynamic(request, images_for, tmp_path_factory):
    """A model of each other task, and a file of it."""
    name, file_format = request.param
    folder = tmp_path_factory.mktemp('dynamic')
    model = task_model(name, folder)
    path = folder / f'model{FORMATS[file_format].suffix}'
    images = images_for(model, dynamic=ALL_DIMENSIONS)[:1]
    export(model, path, file_format, (128, 128), ALL_DIMENSIONS, images=images)
    return model, ExportedModel(path)


@torch.no_grad()
def test_raw_heads_agree_at_another_size(dynamic):
    model, exported = dynamic
    x = torch.randn(2, 3, 96, 160)
    expected = model.get_submodule(exported.head_name)(model.extract_feat(x))
    assert_close(exported.shell.extract_feat(x), expected)


def assert_close(actual, expected):
    if isinstance(expected, torch.Tensor):
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=atol)
        return
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


def test_results_are_those_of_the_model(dynamic):
    model, exported = dynamic
    for image in photographs():
        assert_same_results(
            inference_model(exported, image, score_thr=0.02),
            inference_model(model, image, score_thr=0.02),
        )


def assert_same_results(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if key in ('sem_seg', 'masks'):
            assert len(np.unique(value)) > 1
            assert actual[key].shape == value.shape
            assert (actual[key] == value).mean() > 0.999
        elif key in ('bboxes', 'scores'):  # rotated boxes have five columns
            assert len(value) > 0
            np.testing.assert_allclose(actual[key], value, rtol=1e-3, atol=1e-2)
        else:
            assert key in ('labels', 'classes')
            assert list(actual[key]) == list(value)


# Requests that are refused.


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(file_format='tflite'), r"format 'tflite'.*onnx, openvino, ncnn"),
        (dict(file_format='ncnn', dynamic=('batch',)), r'ncnn have a fixed size.*: onnx, openvino'),
        (dict(precision='fp8'), r'supports fp32, fp16, int8, not fp8.*Precisions: fp32'),
        (dict(precision='bf16'), r'not bf16. Formats for bf16: openvino'),
        (dict(precision='int8'), r'--calib DIR'),
        (dict(int8=Int8Settings('symmetric')), r"fp32 have no int8_scheme 'symmetric'"),
        (dict(dynamic=('depth',)), r"dimension 'depth'.*batch, height, width"),
        (dict(include=('decode', 'nms')), r'Only files of detectors can include NMS'),
        (dict(include=['resize']), r"include 'resize'.*preprocess, decode, nms"),
        (dict(include=['nms'], file_format='torchscript'), r'Formats that can: onnx, openvino'),
        (
            dict(include=['preprocess'], file_format='ncnn'),
            r'Formats that can: onnx, openvino, coreml',
        ),
        (dict(shape=(16, 64)), r'at least 32x32'),
    ],
)
def test_requests_that_cannot_be_met_are_refused(arguments, message, classifier, tmp_path):
    request = dict(path=tmp_path / 'model.onnx', file_format='onnx', shape=(64, 64))
    with pytest.raises(UserError, match=message):
        export(classifier, **{**request, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_nms_of_rotated_boxes_is_refused(tmp_path):
    model = task_model('rotated', tmp_path)
    with pytest.raises(UserError, match=r'no standard operator.*--include decode'):
        export(model, tmp_path / 'm.onnx', 'onnx', (128, 128), include=['nms'])


def test_a_pruned_model_is_refused(tmp_path):
    model = task_model('classifier', tmp_path)
    torch.nn.utils.prune.l1_unstructured(model.head.fc, 'weight', 0.5)
    with pytest.raises(UserError, match=r'`head\.fc` is pruned'):
        export(model, tmp_path / 'files' / 'model.onnx', 'onnx', (64, 64))
    assert not (tmp_path / 'files').exists()


def test_a_missing_package_is_named(classifier, tmp_path, monkeypatch):
    find = formats.importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util,
        'find_spec',
        lambda name, *args: None if name == 'openvino' else find(name, *args),
    )
    with pytest.raises(UserError, match=r'needs the package openvino.*pip install openvino'):
        export(classifier, tmp_path / 'model.xml', 'openvino', (64, 64))


def test_a_file_that_deviates_is_not_kept(classifier, images_for, tmp_path):
    path = tmp_path / 'model.torchscript'
    path.write_text('what was there')
    images = images_for(classifier)
    with pytest.raises(UserError, match=r'deviates from the model: logits by .* not kept'):
        export(classifier, path, 'torchscript', (64, 64), images=images, bound=1e-12)
    assert path.read_text() == 'what was there'
    assert list(tmp_path.iterdir()) == [path]


def test_an_onnx_file_without_metadata_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node('Identity', ['x'], ['y'])
    out = onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], 'g', [value], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / 'other.onnx')
    with pytest.raises(UserError, match=r'was not written by tools/deployment/export\.py'):
        ExportedModel(tmp_path / 'other.onnx')


@pytest.mark.parametrize(
    ('name', 'message'), [('none.onnx', 'does not exist'), ('model.pth', 'is not an exported file')]
)
def test_other_files_are_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        ExportedModel(tmp_path / name)


def test_images_larger_than_a_file_takes_are_refused(tmp_path):
    model = task_model('segmentor', tmp_path)
    export(model, tmp_path / 'model', 'torchscript', (128, 128))
    exported = load_model(tmp_path / 'model.torchscript')
    with pytest.raises(UserError, match=r'up to 128x128 pixels.*got 160x160.*--dynamic'):
        exported.shell.extract_feat(torch.randn(1, 3, 160, 160))
    assert exported.shell.extract_feat(torch.randn(1, 3, 100, 128)).shape[1] == 11
