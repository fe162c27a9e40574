"""The learning-rate finder."""

import json

import pytest
import torch

from edgenext_mm.engine.lr_finder import _suggest, find_lr
from edgenext_mm.errors import UserError


def test_rates_grow_and_multipliers_stay(digits_training, monkeypatch):
    """What the optimizer used in each step, seen by the optimizer itself."""
    config = digits_training(4, 1)
    config.optim_wrapper.paramwise_cfg = dict(custom_keys={'head': dict(lr_mult=10.0)})
    config.auto_scale_lr.update(enable=True, base_batch_size=8)
    used = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        used.append(sorted({group['lr'] for group in self.param_groups}))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, 'step', spy)
    found = find_lr(config, 1e-6, 1e-2, steps=15)
    assert len(used) == 15
    assert found.rates[0] == pytest.approx(1e-6)
    for rate, (low, high) in zip(found.rates, used, strict=False):
        assert low == pytest.approx(rate * 4 / 8)
        assert high == pytest.approx(rate * 4 / 8 * 10)
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_the_suggestion_is_a_tenth_of_the_best_rate():
    rates = [10.0**-k for k in range(12, 0, -1)]
    losses = [abs(k - 4) + 1.0 for k in range(12, 0, -1)]
    assert _suggest(rates, losses).suggestion == pytest.approx(1e-5)


def test_without_a_fall_of_the_loss_there_is_no_suggestion():
    rates = [10.0**-k for k in range(12, 0, -1)]
    assert _suggest(rates, [2.33, 2.31, *[2.34] * 10]).suggestion is None
    assert _suggest(rates, [2.33, 2.20, *[2.34] * 10]).suggestion == pytest.approx(1e-12)


def test_a_loss_that_explodes_at_once_is_an_error():
    with pytest.raises(UserError, match='exploded after 3 steps'):
        _suggest([1, 2, 3], [1, 2, 3])


def test_the_tool_writes_a_picture_and_no_checkpoint(few_digits, call_tool, tmp_path):
    options = [f'{s}_dataloader.dataset.data_root={few_digits}' for s in ('train', 'val')]
    done = call_tool(
        'train.py', 'configs/classification/edgenext-xxsmall_digits.py', '--find-lr',
        '--work-dir', tmp_path, '--cfg-options', *options, 'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.dataset.pipeline.1.scale=32', 'log_level=ERROR',
    )  # fmt: skip
    found = json.loads((tmp_path / 'lr_finder.json').read_text())
    suggested = found['suggestion']
    assert ('Keep that' if suggested is None else f'lr={suggested:g}))') in done.stdout
    assert (tmp_path / 'lr_finder.png').stat().st_size > 5000
    assert not list(tmp_path.rglob('*.pth'))
