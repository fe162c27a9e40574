"""The operators that a model spends its time in."""

import runpy
import time

import pytest
import torch

from benchmarks.profile_operators import operator_times, operators_table, profile_models


def test_the_operators_of_a_call_are_found():
    a = torch.randn(64, 64)
    times = operator_times(lambda: (a @ a).sigmoid(), calls=3)
    assert times['aten::mm'] > 0
    assert times['aten::sigmoid'] > 0


def test_the_longest_are_named_and_the_others_summed():
    times = {'a': {'mm': 4.0, 'add': 1.0, 'mul': 0.5}, 'b': {'mm': 1.0, 'gelu': 3.0}}
    assert operators_table(times, rows=2).splitlines()[2:] == [
        '| `mm` | 4.0 | 1.0 |',
        '| `gelu` | 0.0 | 3.0 |',
        '| all others | 1.5 | 0.0 |',
        '| sum | 5.5 | 4.0 |',
    ]


def test_the_tool_updates_a_document(call_program, tmp_path):
    document = tmp_path / 'speed.md'
    document.write_text('<!-- begin ops -->\n<!-- end ops -->\n')
    options = ['--shape', 32, 32, '--calls', 1, '--threads', 1, '--update', 'ops', document]
    name = 'benchmarks.profile_operators'
    done = call_program(runpy.run_module, name, 'xxsmall', '--runtime', 'deploy', *options)
    table = done.stdout.strip()
    assert 'native_layer_norm' in table
    assert table.splitlines()[-1] in document.read_text()


@pytest.mark.parametrize('runtime', ['eager', 'training'])
def test_gradients_are_there_in_training_alone(runtime):
    times = profile_models(['xxsmall'], runtime, batch=2, shape=(32, 32), threads=1, calls=1)
    backward = any('backward' in name for name in times['xxsmall'])
    assert backward == (runtime == 'training')


@pytest.mark.parametrize(
    ('runtime', 'product', 'others'),
    [
        ('onnxruntime', 'Conv', ('LayerNormalization', 'Gelu', 'Gemm')),
        ('openvino', 'Convolution', ('GroupConvolution', 'MVN', 'FullyConnected')),
    ],
)
def test_other_runtimes_report_their_operators(runtime, product, others):
    start = time.perf_counter()
    # Large enough that products take longest on a busy machine, too.
    size = dict(batch=2, shape=(256, 256))
    times = profile_models(['xxsmall'], runtime, **size, threads=1, calls=2)['xxsmall']
    elapsed = 1e3 * (time.perf_counter() - start)
    assert max(times, key=times.get) == product
    assert all(t >= 0 for t in times.values())
    assert all(times[name] > 0 for name in others)
    assert 2 * sum(times.values()) < elapsed
