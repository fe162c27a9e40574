"""Files of segmentors whose prediction is more than one head on features."""

import numpy as np
import pytest
from upstream_models import pointrend

from edgenext_mm import inference_model
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.errors import UserError
from edgenext_mm.runtime import load


def test_a_cascade_of_heads_gives_the_classes_of_the_model(tmp_path, images_for):
    model = pointrend(tmp_path)
    path = tmp_path / 'model.onnx'
    (deviation,) = export(model, path, 'onnx', (128, 128), images=images_for(model)[:1])
    assert (deviation.output, deviation.relative < 1e-4) == ('logits', True)
    with pytest.raises(UserError, match='CascadeEncoderDecoder with a PointHead have a fixed size'):
        export(model, path, 'onnx', (128, 128), ('batch',))
    run = load(path)
    for image in default_images():
        expected = inference_model(model, image[:400, :400])['sem_seg']
        assert np.bincount(expected.ravel()).max() < 0.9 * expected.size
        for actual in (run(image[:400, :400]), inference_model(path, image[:400, :400])):
            assert (actual['sem_seg'] == expected).mean() > 0.999
