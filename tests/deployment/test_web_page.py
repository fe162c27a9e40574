"""The page's JavaScript computes what the Python runtime computes. Needs Node.js."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from paths import ROOT

from edgenext_mm.deployment import web_demo
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.boxes import Detections, Selection, iou, nms, select
from edgenext_mm.runtime.images import resize
from edgenext_mm.runtime.preprocessing import Preprocessing

pytestmark = pytest.mark.skipif(shutil.which('node') is None, reason='Node.js is not installed')

CORE = ROOT / 'edgenext_mm/deployment/web/core.mjs'


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates an expression with the functions of the page and a value `given`."""

    def run(expression, given):
        (tmp_path / 'given.json').write_text(json.dumps(given))
        (tmp_path / 'run.mjs').write_text(
            f"import * as core from '{CORE}';\n"
            "import { readFileSync } from 'node:fs';\n"
            f"const given = JSON.parse(readFileSync('{tmp_path}/given.json'));\n"
            f'console.log(JSON.stringify({expression}));\n'
        )
        done = subprocess.run(
            ['node', tmp_path / 'run.mjs'], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ('size', 'interpolation', 'backend'),
    [
        ((98, 77), 'nearest', 'cv2'),
        ((98, 77), 'bilinear', 'cv2'),
        ((100, 60), 'bilinear', 'cv2'),  # half: the mean of four
        ((251, 140), 'bilinear', 'cv2'),
        ((98, 77), 'bicubic', 'cv2'),
        ((98, 77), 'bilinear', 'pillow'),
        ((98, 77), 'bicubic', 'pillow'),
        ((251, 140), 'bicubic', 'pillow'),
        ((98, 77), 'lanczos', 'pillow'),
    ],
)
def test_resizing(size, interpolation, backend, evaluate):
    image = default_images()[0][100:220, 100:300]
    found = evaluate(
        'Array.from(core.resize({...given, data: Uint8Array.from(given.data)}, given.size, '
        'given.interpolation, given.backend).data)',
        dict(
            data=image.ravel().tolist(), width=200, height=120, size=size,
            interpolation=interpolation, backend=backend,
        ),
    )  # fmt: skip
    expected = resize(image, size, interpolation, backend).ravel().astype(int)
    difference = np.abs(np.array(found) - expected)
    assert difference.max() <= (0 if backend == 'pillow' else 1)
    assert (difference > 0).mean() < 0.005


def decoded(columns, seed=0):
    """Boxes and scores of a detector with two levels, for an input of 64x96 pixels."""
    generator = np.random.default_rng(seed)
    selection = Selection(0.3, 50, 0.4, False, 20, 4, True, (8, 16), (2, 1))
    count = sum(selection.level_sizes((64, 96)))
    boxes = generator.uniform(-5, 100, (count, columns))
    if columns == 4:
        boxes[:, 2:] = boxes[:, :2] + generator.uniform(0, 60, (count, 2))
    else:
        boxes[:, 2:4] = generator.uniform(2, 60, (count, 2))
        boxes[:, 4] = generator.uniform(-1, 2, count)
    return boxes.astype(np.float32), generator.random((count, 3), np.float32), selection


@pytest.mark.parametrize('columns', [4, 5])
def test_selection_of_boxes(columns, evaluate):
    boxes, scores, selection = decoded(columns)
    factors = np.random.default_rng(1).random(len(boxes), np.float32)
    expected = select(boxes, scores, factors, selection, (64, 96), (60, 90), (0.5, 0.75))
    found = evaluate(
        'core.select(given.outputs.map(([data, dims]) => ({data: Float32Array.from(data), dims})),'
        '{image: {width: 90, height: 60}, factors: [0.5, 0.75]}, [64, 96], given.selection)',
        dict(
            outputs=[[a.ravel().tolist(), [1, *a.shape]] for a in (boxes, scores, factors)],
            selection=selection._asdict(),
        ),
    )
    assert len(found) == len(expected.scores) == 20
    np.testing.assert_allclose([o['box'] for o in found], expected.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose([o['score'] for o in found], expected.scores, rtol=1e-5)
    assert [o['label'] for o in found] == expected.labels.tolist()


def test_iou_of_rotated_boxes(evaluate):
    boxes = decoded(5)[0][:60]
    pairs = [[boxes[i].tolist(), boxes[j].tolist()] for i in range(20) for j in range(60)]
    found = evaluate('given.map(([a, b]) => core.iou(a, b))', pairs)
    expected = np.concatenate([iou(boxes[i], boxes) for i in range(20)])
    assert (expected > 0.1).sum() > 100
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_agnostic_nms(evaluate):
    boxes, scores, selection = decoded(4)
    selection = selection._replace(class_agnostic=True)
    given = Detections(boxes, scores[:, 0], np.arange(len(boxes)) % 3).sorted()
    objects = [
        dict(box=box, score=score, label=label)
        for box, score, label in zip(
            given.boxes.tolist(), given.scores.tolist(), given.labels.tolist(), strict=True
        )
    ]
    found = evaluate(
        'core.nms(given.objects, given.selection).map((o) => given.objects.indexOf(o))',
        dict(objects=objects, selection=selection._asdict()),
    )
    limits = selection.iou_threshold, selection.class_agnostic, selection.max_per_img
    assert found == nms(given, *limits)


def test_a_site_holds_what_it_needs(exported, tmp_path):
    runtime = tmp_path / 'dist'
    runtime.mkdir()
    for name in web_demo.RUNTIME_FILES:
        (runtime / name).write_text(name)
    site = web_demo.write_site(exported('onnx')[0], tmp_path / 'site', runtime=runtime)
    description = json.loads((site / 'model.json').read_text())
    assert description['task'] == 'classification'
    assert description['classes'] == list('0123456789')
    assert 'config' not in description
    assert (site / 'model.onnx').read_bytes() == exported('onnx')[0].read_bytes()
    assert {path.name for path in site.iterdir()} == {
        'app.mjs', 'core.mjs', 'index.html', 'model.json', 'model.onnx', 'ort',
    }  # fmt: skip
    page = ''.join(path.read_text() for path in web_demo.PAGE.iterdir())
    assert '//cdn' not in page
    assert 'https://' not in page


def test_what_a_page_cannot_run_is_named(exported, tmp_path):
    with pytest.raises(UserError, match=r'ONNX files, not model\.torchscript'):
        web_demo.write_site(exported('torchscript')[0], tmp_path / 'site')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'lacks ort\.wasm\.min\.mjs.*npm pack onnxruntime-web'):
        web_demo.write_site(exported('onnx')[0], tmp_path / 'site', runtime=tmp_path / 'empty')


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
@pytest.mark.parametrize('include', [[], ['preprocess']])
def test_padding(order, include, evaluate):
    preprocessing = dict(
        loading=[], steps=[], channel_order=order, mean=[10.0, 20.4, 30.0], std=[2.0, 4.0, 5.0],
        pad_value=3, pad_size_divisor=1, testing=None,
    )  # fmt: skip
    metadata = dict(preprocessing=preprocessing, dynamic=[], include=include, shape=[4, 5], task='')
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    found = evaluate(
        'Array.from(core.inputOf({image: {...given.image, data: Uint8Array.from(given.image.data)}}'
        ', given.metadata).data)',
        dict(metadata=metadata, image=dict(data=image.ravel().tolist(), width=3, height=2)),
    )
    expected = Preprocessing(preprocessing).pad(image, (4, 5), normalise=not include)
    np.testing.assert_allclose(found, expected.ravel(), rtol=1e-6)
