"""Pipeline steps of ours against those of Pillow and mmpretrain that they replace."""

import numpy as np
import pytest
from mmpretrain.datasets.transforms import ColorJitter, RandomResizedCrop
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image

from edgenext_mm.datasets.transforms import MultiScaleRandomResizedCrop, TableColorJitter


@pytest.fixture(scope='module')
def photograph():
    """Blue, green, red."""
    return np.ascontiguousarray(load_sample_image('china.jpg')[..., ::-1])


@pytest.mark.parametrize('factor', [0.0, 0.37, 1.0, 1.6])
@pytest.mark.parametrize(
    ('name', 'enhance', 'tolerance'),
    [
        ('brightness', ImageEnhance.Brightness, 0),
        ('contrast', ImageEnhance.Contrast, 1),  # the mean of grey can differ by one
        ('saturation', ImageEnhance.Color, 1),
    ],
)
def test_each_colour_operation_is_that_of_pillow(photograph, name, enhance, tolerance, factor):
    jitter = TableColorJitter(**{name: (factor, factor)})
    if factor == 1:
        assert getattr(jitter, name) is None
        return
    found = jitter.transform(dict(img=photograph))['img']
    expected = enhance(Image.fromarray(photograph[..., ::-1])).enhance(factor)
    errors = np.abs(found[..., ::-1].astype(int) - np.asarray(expected))
    assert errors.max() <= tolerance


def test_random_numbers_and_order_are_those_of_mmpretrain(photograph):
    options = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    for seed in range(10):
        results = []
        for kind in (TableColorJitter, ColorJitter):
            np.random.seed(seed)
            results.append(kind(**options).transform(dict(img=photograph))['img'].astype(int))
        errors = np.abs(results[0] - results[1])
        assert errors.max() <= 12  # differences of one grow with hue and later operations
        assert errors.mean() < 0.5


def test_crops_are_those_of_mmpretrain(photograph):
    options = dict(scale=96, backend='pillow', interpolation='bicubic')
    for seed in range(10):
        results = []
        for kind in (MultiScaleRandomResizedCrop, RandomResizedCrop):
            np.random.seed(seed)
            results.append(kind(**options).transform(dict(img=photograph)))
        np.testing.assert_array_equal(results[0]['img'], results[1]['img'])
        assert results[0]['img_shape'] == results[1]['img_shape']
