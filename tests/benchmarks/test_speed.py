import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.latency import (
    Timing,
    inference_call,
    interleave,
    paired_ratio,
    ratio_interval,
    training_call,
)
from benchmarks.machine import describe_machine, matmul_peak, peak_memory
from benchmarks.models import EdgeNeXtClassifier, build_named
from benchmarks.runtimes import Settings, prepare
from benchmarks.speed import Plan, _figures, long_table, wide_table
from edgenext_mm.errors import UserError


def test_calls_take_turns_and_swap_places():
    order = []
    timings = interleave(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, rounds=3, warmup=1
    )
    assert ''.join(order) == 'abbaabba'
    assert len(timings['a'].seconds) == len(timings['b'].seconds) == 3


def test_the_interval_of_a_ratio_holds_it_and_narrows():
    rng = np.random.default_rng(0)

    def timing(scale, count):
        return Timing(tuple(scale * rng.normal(1, 0.1, count)))

    low, high = ratio_interval(timing(2, 400), timing(1, 400))
    assert low < 2 < high
    wide_low, wide_high = ratio_interval(timing(2, 20), timing(1, 20))
    assert high - low < wide_high - wide_low


def test_a_machine_that_changes_its_state_does_not_change_the_ratio():
    # The median of one is of the fast state, that of the other of the slow one.
    baseline = Timing((1.0,) * 6 + (1.5,) * 5)
    timing = Timing((0.5,) * 5 + (0.75,) * 6)
    assert timing.median / baseline.median == 0.75
    assert paired_ratio(timing, baseline) == 0.5
    assert ratio_interval(timing, baseline) == (0.5, 0.5)
    figures = _figures(timing, baseline, batch=3)
    assert (figures['time_ratio'], figures['throughput_ratio']) == (0.5, 2)
    assert (figures['median_ms'], figures['images_per_second']) == (750, 4)


def test_peak_memory_is_that_of_the_tensors():
    def call():
        a = torch.zeros(1000, 1000)
        del a
        return torch.zeros(10, 1000, 1000)

    assert peak_memory(call) == pytest.approx(40e6, rel=0.01)


def test_the_machines_peak_and_name():
    assert 1e8 < matmul_peak(size=256) < 1e13
    assert 'torch' in describe_machine()


@pytest.mark.parametrize('runtime', ['eager', 'deploy', 'compile', 'onnxruntime', 'openvino'])
def test_every_runtime_runs_the_model(runtime):
    arch = dict(depths=(1, 1, 1, 1), dims=(16, 16, 24, 32), num_sdta=(0, 0, 0, 1))
    model = EdgeNeXtClassifier(arch, num_classes=10).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
    result = prepare(runtime, model, x, Settings(threads=1))()
    if runtime in ('onnxruntime', 'openvino'):
        result = torch.from_numpy(np.asarray(result[0]))
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-5)


def test_an_unknown_runtime_is_refused():
    with pytest.raises(UserError, match=r"runtime 'jax'.*eager, deploy, compile"):
        prepare('jax', nn.Identity(), torch.zeros(1), Settings())


def plan(**kwargs):
    settings = dict(
        models=['small', 'small_bnhs', 'timm:edgenext_small', 'timm:mobilevit_s'],
        runtimes=['eager', 'onnxruntime'], precisions=['fp32', 'int8'], batches=[1],
        shape=(64, 64), baseline='timm', device='cpu', rounds=2, warmup=0, settings=Settings(),
    )  # fmt: skip
    return Plan(**{**settings, **kwargs})


def test_ratios_are_to_timms_model_of_the_same_size():
    twins = [plan().twin(model) for model in plan().models]
    assert twins == ['timm:edgenext_small'] * 3 + ['timm:mobilevit_s']
    assert plan(baseline='small').twin('timm:mobilevit_s') == 'small'


def test_each_runtime_has_its_precisions():
    assert plan().precisions_of('eager') == ['fp32']
    assert plan().precisions_of('onnxruntime') == ['fp32', 'int8']


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(baseline='base'), 'The baseline base is not one of the models small, '),
        (dict(models=['small']), 'The baseline timm:edgenext_small is not one of the models small'),
        (dict(precisions=['int8']), 'eager supports fp32, fp16, bf16, not int8'),
        (dict(runtimes=['jax']), "runtime 'jax'.*eager, deploy"),
        (dict(settings=Settings(cuda_graphs=True)), '--cuda-graphs needs --device cuda'),
    ],
)
def test_plans_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        plan(**wrong).check()


def test_tables_have_a_line_for_each_model():
    def row(model, runtime, precision, ms):
        return dict(
            model=model, runtime=runtime, precision=precision, batch=1, median_ms=ms,
            quartiles_ms=[ms, ms], time_ratio=ms / 4, time_ratio_95=[0.4, 0.6],
            images_per_second=1e3 / ms, fraction_of_peak=0.5, peak_memory_mib=None,
        )  # fmt: skip

    rows = [
        row('a', 'eager', 'fp32', 2), row('b', 'eager', 'fp32', 4), row('b', 'openvino', 'int8', 1)
    ]  # fmt: skip
    assert wide_table(rows).splitlines()[0] == '| model | eager fp32 | openvino int8 |'
    assert wide_table(rows).splitlines()[2:] == [
        '| a | 2.0 (0.50) |  |',
        '| b | 4.0 (1.00) | 1.0 (0.25) |',
    ]
    assert long_table(rows).count('\n') == 4


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
def test_the_benchmark_reports_ratios_to_the_last_model(run_benchmark, mode, tmp_path):
    models = ['xxsmall', 'timm:edgenext_xx_small']
    document, picture = tmp_path / 'speed.md', tmp_path / 'speed.svg'
    document.write_text('<!-- begin cpu -->\n<!-- end cpu -->\n')
    options = ['--rounds', 3, '--warmup', 1, '--shape', 64, 64, '--batch', 2, '--json', *mode]
    options += ['--update', 'cpu', document, '--plot', picture]
    result = json.loads(run_benchmark('speed', '--models', *models, *options).stdout)
    assert 'GMAC/s' in result['title']
    first, last = result['rows']
    assert first['peak_memory_mib'] > 0.1
    low, high = first['time_ratio_95']
    assert low <= first['time_ratio'] <= high
    assert [first['model'], last['model']] == models
    assert last['time_ratio'] == 1
    assert first['throughput_ratio'] == pytest.approx(1 / first['time_ratio'], rel=0.01)
    assert '| xxsmall |' in document.read_text()
    assert '<svg' in picture.read_text()
