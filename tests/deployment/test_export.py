"""Exported files of all tasks and formats give what their models give."""

import functools
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.deployment import FORMATS, ExportedModel, export
from edgenext_mm.deployment import file_formats as formats_module
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.deployment.openvino_files import arithmetic, core
from edgenext_mm.deployment.tensorrt import required_release
from edgenext_mm.errors import UserError

SCRATCH = {'model.backbone.init_cfg': None}
TASKS = {
    'ssdlite': 'detection/ssdlite_edgenext-xxsmall_digits',
    'gfl': 'detection/gfl_edgenext-xxsmall_fpn_digits',
    'segmentor': 'segmentation/deeplabv3_edgenext-xxsmall_digits',
    'rotated': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits',
}
ARCHS = {
    'xxsmall': 'xxsmall',
    # All kinds of encoders, fewer of each: the time of an export grows with their number.
    'shallow': dict(base='xxsmall', depths=(1, 2, 2, 2)),
}
ALL_DIMENSIONS = ('batch', 'height', 'width')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """A model of each other task, with random weights that find something."""
    folder = tmp_path_factory.mktemp('models')

    def load(name, arch):
        torch.manual_seed(0)
        config = load_config(ROOT / 'configs' / f'{TASKS[name]}.py', SCRATCH)
        config.model.backbone.arch = arch
        from edgenext_mm.models.building import build_model

        model = build_model(config)
        if name in ('gfl', 'rotated'):
            last = getattr(model.bbox_head, 'gfl_cls' if name == 'gfl' else 'retina_cls')
            torch.nn.init.constant_(last.bias, -2.0)
            torch.nn.init.normal_(last.weight, std=0.1)
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
        return load_model(config, folder / f'{name}.pth', 'cpu')

    return functools.cache(lambda name, arch='xxsmall': load(name, ARCHS[arch]))


def photographs():
    """Two images, and one of another shape."""
    first, second = default_images()
    return [first, second, first[:300, :200]]


# Classification, in every format.


@pytest.fixture(scope='module', params=FORMATS)
def classifier_file(request, exported):
    return exported(request.param)


def test_every_format_agrees_with_the_model(classifier_file, classifier):
    path, deviations = classifier_file
    assert formats_module.format_of(path) is not None
    assert [d.output for d in deviations] == ['logits']
    assert deviations[0].relative < 1e-5
    for image in photographs():
        expected = inference_model(classifier, image)
        actual = inference_model(path, image)
        assert actual['pred_class'] == expected['pred_class']
        np.testing.assert_allclose(actual['pred_scores'], expected['pred_scores'], atol=1e-5)


def test_a_file_says_what_it_is(classifier_file):
    metadata = ExportedModel(classifier_file[0]).metadata
    assert metadata.task == 'classification'
    assert metadata.classes == tuple('0123456789')
    assert metadata.shape == (64, 64)
    assert metadata.preprocessing['channel_order'] == 'RGB'
    assert len(metadata.preprocessing['mean']) == 3
    assert any('Resize' in step['type'] for step in metadata.preprocessing['steps'])


def test_batches_are_run_where_the_file_takes_one_image(classifier_file, classifier):
    actual = inference_model(classifier_file[0], photographs(), batch_size=3)
    expected = inference_model(classifier, photographs(), batch_size=3)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a['pred_scores'], e['pred_scores'], atol=1e-5)


def test_the_folder_holds_nothing_else(classifier_file):
    names = {path.name for path in classifier_file[0].parent.iterdir()}
    assert names <= {classifier_file[0].name, 'model.bin'}


def test_a_corrupt_file_is_refused(classifier_file, tmp_path):
    path = tmp_path / classifier_file[0].name
    path.write_bytes(classifier_file[0].read_bytes()[:1000])
    with pytest.raises(UserError, match='cannot be read as'):
        ExportedModel(path)


def test_the_tools_run_a_file(digits_checkpoint, few_digits, tmp_path, run_tool):
    path = tmp_path / 'model.onnx'
    run_tool(
        'deployment/export.py', DIGITS_CONFIG, digits_checkpoint, '--format', 'onnx',
        '--out', path, '--dynamic', 'batch',
    )  # fmt: skip
    done = run_tool('infer.py', path, few_digits / 'val' / '3', '--json')
    assert done.stdout.count('pred_class') == 2
    roots = [f'test_dataloader.dataset.data_root={few_digits}']
    options = ['--work-dir', tmp_path / 'work', '--cfg-options', *roots]
    of_file = run_tool('test.py', DIGITS_CONFIG, path, '--out', tmp_path / 'a.json', *options)
    run_tool('test.py', DIGITS_CONFIG, digits_checkpoint, '--out', tmp_path / 'b.json', *options)
    assert (tmp_path / 'a.json').read_text() == (tmp_path / 'b.json').read_text()
    assert 'accuracy/top1' in of_file.stdout + of_file.stderr


@pytest.mark.parametrize('file_format', ['onnx', 'openvino'])
def test_integers_stay_near(file_format, classifier, images_for, tmp_path):
    pytest.importorskip('nncf')
    images = images_for(classifier)
    deviations = export(
        classifier, tmp_path / 'model', file_format, (64, 64), precision='int8',
        calibration=images * 4, images=images,
    )  # fmt: skip
    assert 1e-4 < deviations[0].relative < 0.2
    if file_format == 'onnx':
        graph = onnx.load(tmp_path / 'model.onnx').graph
        zeros = {n.input[2] for n in graph.node if n.op_type.endswith('uantizeLinear')}
        constants = [w for w in graph.initializer if w.name in zeros]
        assert {w.data_type for w in constants} == {onnx.TensorProto.INT8}
        assert not any(onnx.numpy_helper.to_array(w).any() for w in constants)
        assert required_release(tmp_path / 'model.onnx')[0] == (10, 0)
    else:
        ops = core().read_model(tmp_path / 'model.xml').get_ops()
        # OpenVINO corrupts memory where it is not.
        assert [op.get_type_name() for op in ops].count('ScaledDotProductAttention') == 3
        assert are_in_floating_point(ops, 'ScaledDotProductAttention')
        assert are_in_floating_point(ops, 'GroupConvolution')
        assert not are_in_floating_point(ops, 'Convolution')


def test_what_is_not_integer_runs_as_by_default(exported):
    path, _ = exported('openvino')
    compiled = core().compile_model(path, 'CPU')
    assert arithmetic('int8') == compiled.get_property('INFERENCE_PRECISION_HINT').to_string()
    assert (arithmetic('fp32'), arithmetic('bf16')) == ('f32', 'bf16')


def are_in_floating_point(ops, kind):
    chosen = [op for op in ops if op.get_type_name() == kind]
    inputs = [value.get_source_output().get_node() for op in chosen for value in op.inputs()]
    assert inputs
    return 'FakeQuantize' not in {node.get_type_name() for node in inputs}


@pytest.mark.parametrize(
    ('file_format', 'precision'),
    [('onnx', 'fp16'), ('openvino', 'fp16'), ('openvino', 'bf16'), ('torchscript', 'bf16')],
)
def test_half_precision(file_format, precision, classifier, images_for, tmp_path):
    images = images_for(classifier)
    path = tmp_path / 'model'
    deviations = export(classifier, path, file_format, (64, 64), precision=precision, images=images)
    assert 0 < deviations[0].relative < 0.05


SIGNALLED = """
import gc, signal, sys
from edgenext_mm.deployment import ExportedModel

models = [ExportedModel(sys.argv[1]), ExportedModel(sys.argv[1])]
while models:
    del models[0]
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_once_files_are_closed(exported):
    """In the order in which they were opened, after which OpenVINO's signal stacks are gone."""
    command = [sys.executable, '-c', SIGNALLED, str(exported('openvino')[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'handled\n'), done.stderr


# Other tasks, with sizes that change.


@pytest.fixture(scope='module', params=TASKS)
def dynamic(request, models, images_for, tmp_path_factory):
    """A file of each format, and its model."""
    model = models(request.param, 'shallow')
    folder = tmp_path_factory.mktemp('dynamic')
    for file_format in ('onnx', 'openvino'):
        export(
            model, folder / 'model', file_format, (128, 128), ALL_DIMENSIONS,
            images=images_for(model, dynamic=ALL_DIMENSIONS),
        )  # fmt: skip
    return model, folder


@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_raw_heads_agree_at_another_size(dynamic, suffix):
    model, folder = dynamic
    exported = ExportedModel(folder / f'model{suffix}')
    x = torch.randn(2, 3, 96, 160)
    head = model.get_submodule(exported.name)
    with torch.no_grad():
        expected = head(model.extract_feat(x))
    actual = exported.shell.extract_feat(x)
    assert_close(actual, expected)


def assert_close(actual, expected):
    if isinstance(expected, torch.Tensor):
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=atol)
        return
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


def test_tensorrt_has_all_operators(dynamic):
    release, _ = required_release(dynamic[1] / 'model.onnx')
    assert release == (10, 0)


@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_results_are_those_of_the_model(dynamic, suffix):
    model, folder = dynamic
    for image in photographs():
        assert_same_results(
            inference_model(folder / f'model{suffix}', image, score_thr=0.02),
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


# Boxes after NMS in the graph.


@pytest.mark.parametrize('name', ['ssdlite', 'gfl'])
def test_boxes_after_nms_are_those_of_the_model(name, models, images_for, tmp_path):
    model = models(name)
    deviations = export(
        model, tmp_path / 'boxes', 'onnx', (128, 128), ('batch',), decode=True,
        images=images_for(model),
    )  # fmt: skip
    assert [d.output for d in deviations] == ['boxes', 'scores']
    assert max(d.relative for d in deviations) < 1e-4
    operators = {(n.domain, n.op_type) for n in onnx.load(tmp_path / 'boxes.onnx').graph.node}
    assert ('', 'NonMaxSuppression') in operators
    assert {domain for domain, _ in operators} == {''}
    assert required_release(tmp_path / 'boxes.onnx')[0] == (10, 0)
    for image in default_images():
        image = image[:400, :400]  # as the file's input is, so that nothing is padded
        assert_same_results(
            inference_model(tmp_path / 'boxes.onnx', image, score_thr=0.02),
            inference_model(model, image, score_thr=0.02),
        )


# Requests that cannot be met.


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (dict(file_format='tflite'), r"format 'tflite'.*onnx, openvino, torchscript, torch-export"),
        (dict(precision='fp8'), r'can be fp32, fp16, int8, not fp8.*Precisions: fp32'),
        (dict(precision='bf16'), r'not bf16. Formats for bf16: openvino'),
        (dict(precision='int8'), r'--calib DIR'),
        (dict(int8_scheme='symmetric'), r"fp32 have no int8_scheme 'symmetric'"),
        (dict(dynamic=('depth',)), r"dimension 'depth'.*batch, height, width"),
        (dict(decode=True), r'has no boxes to decode'),
        (dict(decode=True, file_format='torchscript'), r'onnx or openvino'),
        (dict(shape=(16, 64)), r'at least 32x32'),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments, told, classifier, tmp_path):
    request = dict(path=tmp_path / 'model.onnx', file_format='onnx', shape=(64, 64), **{})
    with pytest.raises(UserError, match=told):
        export(classifier, **{**request, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_a_two_stage_detector_is_refused(tmp_path):
    from edgenext_mm.models.building import build_model

    path = ROOT / 'configs/detection/mask-rcnn_edgenext-small_fpn_8xb2-1x_coco.py'
    config = load_config(path, SCRATCH)
    model = build_model(config)
    model.cfg, model.dataset_meta = config, {}
    with pytest.raises(UserError, match='two-stage detectors cannot'):
        export(model, tmp_path / 'model.onnx', 'onnx', (64, 64))


def test_rotated_boxes_are_not_decoded(models, tmp_path):
    with pytest.raises(UserError, match='export the raw heads'):
        export(models('rotated'), tmp_path / 'm.onnx', 'onnx', (128, 128), decode=True)


def test_a_missing_package_is_told(classifier, tmp_path, monkeypatch):
    find = formats_module.importlib.util.find_spec
    monkeypatch.setattr(
        formats_module.importlib.util,
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


def test_a_file_of_others_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node('Identity', ['x'], ['y'])
    out = onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], 'g', [value], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / 'other.onnx')
    with pytest.raises(UserError, match=r'was not written by tools/deployment/export\.py'):
        ExportedModel(tmp_path / 'other.onnx')


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match='There is no file'):
        ExportedModel(tmp_path / 'none.onnx')
    with pytest.raises(UserError, match='no exported file'):
        ExportedModel(tmp_path / 'model.pth')


def test_images_larger_than_a_file_takes_are_refused(models, tmp_path):
    model = models('segmentor')
    export(model, tmp_path / 'model', 'torchscript', (128, 128))
    exported = ExportedModel(tmp_path / 'model.torchscript')
    with pytest.raises(UserError, match=r'up to 128x128 pixels.*got 160x160.*--dynamic'):
        exported.shell.extract_feat(torch.randn(1, 3, 160, 160))
    assert exported.shell.extract_feat(torch.randn(1, 3, 100, 128)).shape[1] == 11
