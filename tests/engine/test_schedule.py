import re

import pytest
import torch
from logs import logged
from mmengine.config import Config
from mmengine.optim import LinearLR
from paths import CONFIGS

from edgenext_mm.engine.schedule import check_schedule
from edgenext_mm.engine.warmup import without_short_warmups

COSINE = dict(type='CosineAnnealingLR', begin=2, end=30)
WARMUP = dict(type='LinearLR', start_factor=0.01, end=2)


def warnings_of(train_cfg, *schedulers):
    config = Config(dict(model={}, train_cfg=train_cfg, param_scheduler=list(schedulers)))
    with logged() as lines:
        check_schedule(config)
    return lines


@pytest.mark.parametrize(
    ('train_cfg', 'schedulers', 'warning'),
    [
        (dict(max_epochs=60), [WARMUP, COSINE], 'CosineAnnealingLR, ends at epoch 30: '),
        (dict(max_epochs=60), [COSINE], 'param_scheduler.0.end to match'),
        (dict(max_epochs=60), [dict(type='CosineAnnealingLR', T_max=30)], 'period 60 rises again'),
        (
            dict(max_iters=900),
            [dict(type='mmseg.PolyLR', begin=100, end=800, by_epoch=False)],
            'train_cfg.max_iters is 900, .* PolyLR, ends at iteration 800',
        ),
        (
            dict(max_epochs=9),
            [dict(type='LinearLR', start_factor=1.0, end_factor=0.0, total_iters=6)],
            'LinearLR, ends at epoch 6',
        ),
    ],
)
def test_a_schedule_that_ends_early_is_warned_of(train_cfg, schedulers, warning):
    (line,) = warnings_of(train_cfg, *schedulers)
    assert re.search(warning, line)


@pytest.mark.parametrize(
    ('train_cfg', 'schedulers'),
    [
        (dict(max_epochs=30), [WARMUP, COSINE]),
        (dict(max_epochs=20), [WARMUP, COSINE]),
        (dict(max_epochs=60), [WARMUP, dict(type='MultiStepLR', milestones=[8, 11])]),
        (dict(max_epochs=60), [dict(type='ConstantLR', factor=0.1, end=2)]),
        # YOLOX trains its last epochs at a low rate on purpose.
        (dict(max_epochs=45), [COSINE, dict(type='ConstantLR', factor=1, begin=30, end=45)]),
        # Not comparable without the size of an epoch.
        (dict(max_epochs=60), [dict(type='PolyLR', end=800, by_epoch=False)]),
        (dict(max_epochs=60), [dict(type='CosineAnnealingMomentum', end=30)]),
        (dict(max_epochs=60), []),
        ({}, [COSINE]),
    ],
)
def test_other_schedules_give_no_warning(train_cfg, schedulers):
    assert not warnings_of(train_cfg, *schedulers)


def test_the_schedules_of_all_configs_fit():
    for path in CONFIGS:
        config = Config.fromfile(path)
        with logged() as lines:
            check_schedule(config)
        assert not lines, path


@pytest.mark.parametrize(
    ('end', 'epoch_length', 'kept'), [(0.5, 1, 0), (0.5, 3, 0), (1, 1, 0), (0.5, 4, 1), (1, 2, 1)]
)
def test_warmups_that_would_keep_the_rate_low_are_removed(end, epoch_length, kept):
    warmup = dict(WARMUP, by_epoch=True, convert_to_iter_based=True, end=end)
    assert without_short_warmups([warmup], epoch_length) == [warmup] * kept
    # Independent of the above: the rate after the warm-up, by mmengine.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = int(end * epoch_length)
    if steps:
        scheduler = LinearLR(optimizer, start_factor=0.01, end=steps)
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]['lr'] == pytest.approx(1.0 if kept else 0.01)


def test_other_schedulers_stay():
    others = [COSINE, dict(WARMUP, end=1), dict(WARMUP, by_epoch=False), dict(type='LinearLR')]
    assert without_short_warmups([*others, dict(WARMUP, by_epoch=False, end=1)], 1) == others
