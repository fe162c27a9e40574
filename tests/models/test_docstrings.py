import inspect
import re

import pytest

from edgenext_mm.models import Arch, EdgeNeXt, RotatedIoULoss, layers
from edgenext_mm.models.classifiers.distilled_classifier import DistilledClassifier
from edgenext_mm.models.heads.rotated_gfl_head import RotatedGFLHead
from edgenext_mm.models.necks.ssdlite_neck import SSDLiteNeck


def documented_arguments(cls):
    section = inspect.getdoc(cls).split('Args:\n')[1].split('\n\n')[0]
    return re.findall(r'^ {4}(\w+):', section, flags=re.MULTILINE)


@pytest.mark.parametrize(
    'cls',
    [
        EdgeNeXt,
        Arch,
        layers.Encoder,
        layers.ConvEncoder,
        layers.SDTAEncoder,
        layers.CrossCovarianceAttention,
        layers.LayerNorm2d,
        layers.PositionalEncodingFourier,
        DistilledClassifier,
        RotatedGFLHead,
        RotatedIoULoss,
        SSDLiteNeck,
    ],
)
def test_all_constructor_arguments_are_documented(cls):
    assert documented_arguments(cls) == list(inspect.signature(cls).parameters)
