import time

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from benchmarks.loop_overhead import STEP, cost_table, measure


@HOOKS.register_module()
class Slow(Hook):
    """Takes 20 ms of CPU time in each step."""

    def after_train_iter(self, runner, **kwargs):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass


def test_the_cost_of_a_hook_is_its_time_per_step(digits_training):
    config = digits_training(batch_size=20, max_epochs=3)
    config.custom_hooks = [dict(type='Slow')]
    costs = measure(config)
    assert 20 <= costs['Slow'] < 30
    assert costs['LossWatchHook'] > 0
    assert costs['Slow'] + costs['LossWatchHook'] < costs[STEP]


def test_the_table_is_sorted_by_cost():
    rows = cost_table({'B': 0.5, STEP: 20.0, 'A': 2.0, 'C': 0.004}).splitlines()[2:]
    assert rows == [f'| {STEP} | 20.00 | 100.0% |', '| A | 2.00 | 10.0% |', '| B | 0.50 | 2.5% |']
