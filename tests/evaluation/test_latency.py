import json

import pytest
import torch
from torch import nn

from edgenext_mm.evaluation.latency import inference_call, interleave, training_call
from edgenext_mm.evaluation.models import build_named


def test_calls_take_turns_and_swap_places():
    order = []
    timings = interleave(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, rounds=3, warmup=1
    )
    assert ''.join(order) == 'abbaabba'
    assert len(timings['a'].seconds) == len(timings['b'].seconds) == 3


def test_a_training_call_moves_the_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    before = model[1].weight.clone()
    training_call(model, torch.randn(4, 3, 2, 2))()
    assert (model[1].weight != before).any()
    assert model.training


def test_an_inference_call_makes_no_graph():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    out = inference_call(model, torch.randn(4, 3, 2, 2))()
    assert not out.requires_grad
    assert not model.training


@pytest.mark.parametrize(
    ('name', 'message'),
    [('tiny', "Unknown model 'tiny'.*xxsmall"), ('timm:edgenext_tiny', 'edgenext_base')],
)
def test_unknown_models_are_answered_with_known_ones(name, message):
    with pytest.raises(ValueError, match=message):
        build_named(name)


@pytest.mark.parametrize('mode', [[], ['--train']])
def test_the_benchmark_reports_ratios_to_the_last_model(run_tool, mode):
    models = ['xxsmall', 'timm:edgenext_xx_small']
    options = ['--rounds', 3, '--warmup', 1, '--shape', 64, 64, '--batch', 2, '--json', *mode]
    rows = json.loads(run_tool('analysis/benchmark.py', '--models', *models, *options).stdout)
    first, last = rows['rows']
    assert [first['model'], last['model']] == models
    assert last['time_ratio'] == 1
    assert first['time_ratio'] == pytest.approx(first['median_ms'] / last['median_ms'], rel=0.01)
