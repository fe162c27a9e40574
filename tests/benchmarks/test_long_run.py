"""Growth of memory and descriptors is measured."""

import mmap

import pytest
from mmengine.hooks import Hook
from paths import DIGITS_CONFIG
from PIL import Image

from benchmarks.long_run import growth
from benchmarks.usage_hook import Sample, Usage, UsageHook
from edgenext_mm.engine.runner import build_runner


class Leak(Hook):
    """Keeps a MiB and an open file per iteration, from the fortieth on."""

    def __init__(self):
        self.kept = []

    def after_train_iter(self, runner, **kwargs):
        if runner.iter >= 40:
            # Not on the heap, where it may reuse free memory.
            memory = mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.write(b'x' * 2**20)
            self.kept += [memory, open(__file__)]  # noqa: SIM115


def test_a_leak_in_a_training_is_measured(digits_training):
    runner = build_runner(digits_training(batch_size=4, max_epochs=8))
    hook = UsageHook(interval=4)
    runner.register_hook(hook)
    leak = Leak()
    runner.register_hook(leak)
    runner.train()
    for kept in leak.kept[1::2]:
        kept.close()

    assert [s.iteration for s in hook.samples] == list(range(4, 81, 4))
    before, after = growth(hook.samples[:10]), growth(hook.samples[10:])
    assert before.main_own < 300
    assert after.main_own > 700
    assert before.descriptors == 0
    assert after.descriptors == pytest.approx(1000)


def test_growth_is_per_thousand_iterations_and_ignores_jumps():
    def usage(i):
        filling = 50 if i < 20 else 100  # a cache that fills early
        jump = 30 if i > 90 else 0
        return Usage(filling + 0.01 * i * 10 + jump, 1, 2, 3, 4, 5, i)

    samples = [Sample(10 * i, usage(i)) for i in range(100)]
    slopes = growth(samples)
    assert slopes.main_rss == pytest.approx(10)
    assert slopes.main_own == 0
    assert slopes.logs == pytest.approx(100)


def test_the_tool_fails_if_memory_grows(run_benchmark, few_digits, tmp_path):
    roots = [f'{split}_dataloader.dataset.data_root={few_digits}' for split in ('train', 'val')]
    done = run_benchmark(
        'long_run', DIGITS_CONFIG, '--work-dir', tmp_path, '--iterations', 20,
        '--interval', 2, '--most=-100000', '--cfg-options', *roots,
        'train_dataloader.batch_size=4', status=1,
    )  # fmt: skip
    assert 'more than -100000 MiB' in done.stderr
    assert '| workers, own memory, MiB |' in done.stdout
    assert Image.open(tmp_path / 'long_run.png').width > 500
