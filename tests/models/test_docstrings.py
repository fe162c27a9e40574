import inspect
import re

import pytest

from edgenext_mm.models import Arch, EdgeNeXt, RotatedIoULoss, layers
from edgenext_mm.models.layers import Encoder


def documented_arguments(cls):
    section = inspect.getdoc(cls).split('Args:\n')[1].split('\n\n')[0]
    entries = re.findall(r'^ {4}(\w[\w, ]*):', section, flags=re.MULTILINE)
    return [name for entry in entries for name in entry.split(', ')]


@pytest.mark.parametrize(
    'cls',
    [
        EdgeNeXt,
        Arch,
        Encoder,
        layers.ConvEncoder,
        layers.SDTAEncoder,
        layers.CrossCovarianceAttention,
        layers.LayerNorm2d,
        layers.PositionalEncodingFourier,
        RotatedIoULoss,
    ],
)
def test_the_documented_arguments_are_those_of_the_constructor(cls):
    assert documented_arguments(cls) == list(inspect.signature(cls).parameters)
