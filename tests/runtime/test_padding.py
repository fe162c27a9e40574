"""Padding follows the model's preprocessor, in pixels and after normalisation."""

import numpy as np
import pytest

from edgenext_mm.errors import UserError
from edgenext_mm.runtime.preprocessing import Preprocessing

DESCRIPTION = dict(
    loading=[],
    steps=[],
    channel_order='RGB',
    mean=[10.0, 20.4, 30.0],
    std=[2.0, 4.0, 5.0],
    pad_value=0,
    pad_size_divisor=1,
    testing=None,
)


@pytest.mark.parametrize(
    ('changes', 'pixels', 'normalised'),
    [
        (dict(), [10, 20, 30], [0, 0, 0]),
        (dict(channel_order='BGR'), [30, 20, 10], [0, 0, 0]),
        (dict(pad_value=3), [16, 32, 45], [3, 3, 3]),
        (dict(pad_value=-9), [0, 0, 0], [-9, -9, -9]),
    ],
)
def test_padding(changes, pixels, normalised):
    preprocessing = Preprocessing({**DESCRIPTION, **changes})
    image = np.full((2, 3, 3), (50, 60, 70), np.uint8)
    found = preprocessing.pad(image, (4, 5), normalise=False)
    assert found.shape == (4, 5, 3)
    assert found[3, 4].tolist() == found[0, 4].tolist() == pixels
    np.testing.assert_array_equal(found[:2, :3], image)
    found = preprocessing.pad(image, (4, 5), normalise=True)
    assert found.shape == (3, 4, 5)
    assert found[:, 3, 4].tolist() == normalised
    order = slice(None, None, -1) if 'channel_order' in changes else slice(None)
    expected = (np.array([50, 60, 70])[order] - [10, 20.4, 30]) / [2, 4, 5]
    np.testing.assert_allclose(found[:, 1, 2], expected, rtol=1e-6)


def test_settings_that_only_openmmlab_knows_are_named():
    steps = [dict(type='CenterCrop', crop_size=8, auto_pad=True)]
    with pytest.raises(UserError, match=r'CenterCrop.*auto_pad'):
        Preprocessing({**DESCRIPTION, 'steps': steps})
