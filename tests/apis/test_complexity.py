import json

import pytest
from torch import nn

from benchmarks.models import EdgeNeXtClassifier
from edgenext_mm.apis.complexity import count_complexity

#: Parameters and MAdds (M, 256x256) of the authors' code, with a 1000-class head.
REFERENCE = {
    'xxsmall': (1_327_216, 260.58),
    'xsmall': (2_336_804, 538.00),
    'small': (5_586_832, 1260.59),
    'base': (18_511_292, 3840.93),
    'xxsmall_bnhs': (1_326_184, 259.53),
    'xsmall_bnhs': (2_335_008, 535.84),
    'small_bnhs': (5_584_000, 1257.28),
}


@pytest.mark.parametrize('arch', REFERENCE)
def test_variants_cost_what_the_authors_code_does(arch):
    params, madds = REFERENCE[arch]
    complexity = count_complexity(EdgeNeXtClassifier(arch), (256, 256))
    assert complexity.params == params
    assert complexity.madds / 1e6 == pytest.approx(madds, rel=0.005)


def test_small_at_224():
    complexity = count_complexity(EdgeNeXtClassifier('small'), (224, 224))
    assert complexity.madds / 1e6 == pytest.approx(965.2, rel=0.005)


def test_a_convolution_counts_its_multiplications():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert count_complexity(conv, (10, 20)).madds == 3 * 8 * 9 * 200


def test_counting_leaves_the_mode():
    model = EdgeNeXtClassifier('xxsmall').train()
    count_complexity(model, (64, 64))
    assert model.training


def test_the_tool_counts_a_config(run_tool):
    config = 'configs/classification/edgenext-xxsmall_8xb256_in1k.py'
    done = run_tool('analysis/get_flops.py', config, '--shape', 128, 192, '--json')
    counted = json.loads(done.stdout)
    expected = count_complexity(EdgeNeXtClassifier('xxsmall'), (128, 192))
    assert counted == dict(
        params=expected.params, madds=expected.madds, shape=[128, 192], attention=0
    )
