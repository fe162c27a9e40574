"""INT8: what is quantized, and what it costs."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import spread, task_model

from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import FORMATS, ExportedModel, export
from edgenext_mm.deployment.converters import CONVERTERS
from edgenext_mm.deployment.exporter import prepare
from edgenext_mm.deployment.file_formats import open_session
from edgenext_mm.deployment.int8 import KINDS, Int8Settings
from edgenext_mm.deployment.onnx_files import kind_of
from edgenext_mm.deployment.sensitivity import measure_sensitivity
from edgenext_mm.errors import UserError


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, images_for):
    model = task_model('classifier', tmp_path_factory.mktemp('tiny'))
    return model, images_for(model)


@pytest.mark.parametrize('file_format', CONVERTERS)
@pytest.mark.parametrize('name', ['classifier', 'gfl'])  # the levels of GFL share weights
def test_files_of_converters(name, file_format, images_for, tmp_path):
    if not CONVERTERS[file_format].is_installed:
        pytest.skip(f'the converter {file_format} is not installed')
    model = task_model(name, tmp_path)
    images = images_for(model)
    if name == 'gfl':
        spread(model)
    else:
        images = [*images, 20 * images[0]]  # ranges must cover a rare image, too
    path = tmp_path / f'int8{FORMATS[file_format].suffix}'
    options = dict(shape=input_shape(model.cfg), images=images[-1:])
    export(model, tmp_path / f'fp32{path.suffix}', file_format, **options)
    deviations = export(model, path, file_format, precision='int8', calibration=images, **options)
    for deviation in deviations:  # those of GFL are large: its weights are random
        assert 1e-4 < deviation.relative < (0.1 if name == 'classifier' else 0.5)
    assert path.stat().st_size < (tmp_path / f'fp32{path.suffix}').stat().st_size
    assert ExportedModel(path).metadata.precision == 'int8'


def test_core_ml_files_hold_int8_weights(tiny, tmp_path):
    """They are read as coremltools reads them."""
    ct = pytest.importorskip('coremltools')
    model, images = tiny
    paths = {name: tmp_path / f'{name}.mlpackage' for name in ('fp32', 'int8', 'plain')}
    for precision in ('fp32', 'int8'):
        options = dict(shape=(64, 64), images=images, precision=precision)
        (deviation,) = export(model, paths[precision], 'coreml', **options)
    assert 1e-4 < deviation.relative < 0.05
    sizes = [FORMATS['coreml'].size(paths[name]) for name in ('int8', 'fp32')]
    assert sizes[0] < 0.4 * sizes[1]
    file = ct.models.MLModel(str(paths['int8']), skip_model_load=True)
    ct.optimize.coreml.decompress_weights(file).save(str(paths['plain']))
    found, expected = (open_session(paths[name])(images[0])[0] for name in ('int8', 'plain'))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def node(operator, inputs, **attributes):
    return onnx.helper.make_node(operator, inputs, ['y'], **attributes)


@pytest.mark.parametrize(
    ('operator', 'expected'),
    [
        (node('Conv', ['x', 'w'], kernel_shape=[4, 4]), 'convolution'),
        (node('Conv', ['x', 'w'], kernel_shape=[1, 1]), 'linear'),
        (node('Conv', ['x', 'w'], kernel_shape=[7, 7], group=24), 'depthwise'),
        (node('MatMul', ['x', 'w']), 'linear'),
        (node('Gemm', ['x', 'w', 'b']), 'linear'),
        (node('MatMul', ['q', 'k']), 'attention'),
        (node('Softmax', ['x']), None),
    ],
)
def test_kinds_of_operators(operator, expected):
    assert kind_of(operator, {'w', 'b'}) == expected


def quantized_kinds(path):
    """Kinds of the operators whose inputs are dequantized, with their numbers."""
    graph = onnx.load(path).graph
    made_by = {name: n.op_type for n in graph.node for name in n.output}
    weights = {w.name for w in graph.initializer}
    weights |= {
        n.output[0] for n in graph.node if n.op_type == 'DequantizeLinear' and n.input[0] in weights
    }
    found = [
        kind_of(n, weights)
        for n in graph.node
        if n.input and made_by.get(n.input[0]) == 'DequantizeLinear'
    ]
    return {kind: found.count(kind) for kind in KINDS if kind in found}


@pytest.mark.parametrize(
    ('ranges', 'keep', 'expected'),
    [
        ('minmax', (), set(KINDS)),
        ('percentile', ('attention', 'depthwise'), {'convolution', 'linear'}),
        ('entropy', ('linear',), set(KINDS) - {'linear'}),
    ],
)
def test_kinds_can_stay_in_floating_point(ranges, keep, expected, tiny, tmp_path):
    model, images = tiny
    export(
        model, tmp_path / 'm.onnx', 'onnx', (64, 64), precision='int8', calibration=images * 2,
        images=images, int8=Int8Settings(ranges=ranges, keep_float=keep),
    )  # fmt: skip
    assert set(quantized_kinds(tmp_path / 'm.onnx')) == expected


def test_the_cost_of_each_kind(tiny):
    model, images = tiny
    options = dict(precision='int8', calibration=images * 2, images=images)
    _, content = prepare(model, 'onnx', (64, 64), **options)
    costs = {c.kind: c for c in measure_sensitivity(content, images, lambda path: {'x': 1.0}, 1)}
    assert list(costs) == ['none', *KINDS, 'all']
    assert costs['none'].deviation == 0
    assert costs['none'].operators == 0
    assert costs['all'].operators == sum(costs[kind].operators for kind in KINDS)
    assert all(0 < costs[kind].deviation < 0.5 for kind in KINDS)
    assert costs['all'].size < costs['linear'].size < costs['none'].size
    assert costs['all'].metrics == {'x': 1.0}
    # The deviation by hand, from files.
    assert np.isclose(costs['all'].deviation, deviation_of(model, images), rtol=1e-3)


def deviation_of(model, images):
    """Deviation of ONNX Runtime's results with INT8, computed from the files."""
    outputs = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in ('fp32', 'int8'):
            path = Path(folder, f'{precision}.onnx')
            options = dict(calibration=images * 2) if precision == 'int8' else {}
            export(model, path, 'onnx', (64, 64), precision=precision, **options)
            session = onnxruntime.InferenceSession(str(path))
            outputs.append([session.run(None, {'images': i.numpy()})[0] for i in images])
    expected, actual = map(np.concatenate, outputs)
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ('file_format', 'settings', 'message'),
    [
        ('onnx', Int8Settings(keep_float=('norm',)), "kind of operators 'norm'.*attention"),
        ('openvino', Int8Settings(keep_float=('attention',)), '--keep-float and --ranges'),
        ('openvino', Int8Settings(ranges='entropy'), '--keep-float and --ranges'),
    ],
)
def test_settings_that_a_format_does_not_have(file_format, settings, message, tiny, tmp_path):
    model, images = tiny
    options = dict(precision='int8', calibration=images, int8=settings)
    with pytest.raises(UserError, match=message):
        export(model, tmp_path / 'm', file_format, (64, 64), **options)
    assert not list(tmp_path.iterdir())
