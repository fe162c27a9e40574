"""Every input leads to a result or a UserError: no other exception, crash, hang or memory growth.

A few hundred examples; thousands with ``pytest tests/fuzz --hypothesis-profile=long``.
"""

import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import FILES, OTHERS, SMALL_SIDES, arrays, pillow_images
from mmcv.transforms import LoadImageFromFile
from paths import ROOT

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.datasets.images import ImageReader, read_image
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model

#: Limit for the growth of the process over all examples, in MiB.
MEMORY = 1500
DENSE = {
    'gfl': 'detection/gfl_edgenext-xxsmall_fpn_digits.py',
    'segmentor': 'segmentation/deeplabv3_edgenext-xxsmall_digits.py',
    'rotated': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py',
}


def peak():
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome_of(model):
    """Returns a function that runs a model: its result, or None for a UserError."""

    def run(source, **options):
        try:
            return inference_model(model, source, **options)
        except UserError:
            return None

    return run


@pytest.fixture(scope='module')
def forms(classifier, exported):
    """The digit classifier and exported files of it, after a first run."""
    files = {name: load_model(exported(name)[0]) for name in ('onnx', 'openvino')}
    models = dict(model=classifier, **files)
    for model in models.values():
        inference_model(model, np.zeros((32, 32, 3), np.uint8))
    return models


@pytest.fixture(scope='module', autouse=True)
def _memory(forms):
    before = peak()
    yield
    assert peak() - before < MEMORY


@pytest.fixture(scope='module', params=['model', 'onnx', 'openvino'])
def run_digits(request, forms):
    """Runs the digit classifier or an exported file."""
    return outcome_of(forms[request.param])


@pytest.fixture(scope='module', params=DENSE)
def run_dense(request):
    """Runs a detector or segmentor with random weights."""
    config = load_config(ROOT / 'configs' / DENSE[request.param], {'model.backbone.init_cfg': None})
    model = build_model(config).eval()
    model.cfg, model.dataset_meta = config, {}
    return outcome_of(model)


@pytest.fixture(scope='module')
def run_classifier(classifier):
    """Runs the digit classifier."""
    return outcome_of(classifier)


@pytest.fixture(scope='module', autouse=True)
def _empty_folder(tmp_path_factory):
    """An empty current folder, in which relative names are looked up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp('empty'))
        yield


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """Path for a file."""
    return tmp_path_factory.mktemp('files') / 'image.png'


@given(arrays() | pillow_images())
def test_images_in_memory(run_digits, image):
    result = run_digits(image)
    if result is not None:
        assert np.isfinite(result['pred_scores']).all()
        assert result['pred_label'] == result['pred_scores'].argmax()


@given(FILES)
def test_files(run_digits, path, content):
    path.write_bytes(content)
    result = run_digits(path)
    assert result is None or np.isfinite(result['pred_scores']).all()


STEPS = [
    dict(imdecode_backend='pillow'),
    dict(color_type='grayscale'),
    dict(color_type='unchanged'),
    dict(color_type='unchanged', imdecode_backend='pillow'),
    dict(color_type='unchanged', imdecode_backend='tifffile', to_float32=True),
]


@given(arrays() | pillow_images() | FILES, st.sampled_from(STEPS))
def test_other_loading_steps(path, image, settings):
    if isinstance(image, bytes):
        path.write_bytes(image)
        image = path
    try:
        results = ImageReader(LoadImageFromFile(**settings))(image)
    except UserError:
        return
    assert results['img'].size
    assert results['img'].shape[:2] == results['ori_shape'] == results['img_shape']


@given(arrays(SMALL_SIDES) | pillow_images(SMALL_SIDES))
def test_images_of_any_size_through_dense_models(run_dense, image):
    result = run_dense(image, score_thr=0.0)
    if result is None:
        return
    height, width = read_image(image).shape[:2]
    if 'sem_seg' in result:
        assert result['sem_seg'].shape == (height, width)
    else:
        assert np.isfinite(result['scores']).all()
        assert np.isfinite(result['bboxes']).all()


@given(OTHERS)
def test_what_is_no_image(run_classifier, source):
    assert run_classifier(source) is None


@given(
    st.lists(arrays(SMALL_SIDES) | OTHERS, max_size=4),
    st.integers(-2, 5),
    st.sampled_from([0.3, -1, 2, float('nan')]),
)
def test_lists_and_options(run_classifier, sources, batch_size, score_thr):
    results = run_classifier(sources, batch_size=batch_size, score_thr=score_thr)
    assert results is None or len(results) >= len(sources)
