"""Trainings with losses and gradients that are not finite."""

import functools
import math
from copy import deepcopy

import mmengine.optim.optimizer.amp_optimizer_wrapper as amp
import poison
import pytest
import torch
from mmengine.hooks import Hook
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.config import load_config
from edgenext_mm.engine import runner as runner_module
from edgenext_mm.engine.replay import replay
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError

DENSE = {
    'segmentor': 'segmentation/deeplabv3_edgenext-xxsmall_digits.py',
    'rotated': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py',
}


class Record(Hook):
    """Keeps the state before the first iteration and after every iteration."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.states = []

    def keep(self, runner):
        optimizer = runner.optim_wrapper.optimizer.state_dict()['state']
        self.states.append(deepcopy((runner.model.state_dict(), optimizer)))

    def before_train(self, runner):
        self.keep(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.keep(runner)


def make_runner(config, request, tmp_path, hook, **watch):
    """Returns a runner of one epoch with a hook that makes it fail, and the record of states."""
    config.train_dataloader.update(batch_size=8, num_workers=0, persistent_workers=False)
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    config.update(dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg')))
    config.param_scheduler = []
    config.work_dir, config.experiment_name = str(tmp_path), request.node.name
    config.loss_watch = watch
    runner = build_runner(config)
    record = Record()
    runner.register_hook(hook)
    runner.register_hook(record)
    return runner, record


@pytest.fixture
def make(request, tmp_path, few_digits):
    """Builds a runner of five iterations on digits, with drop path and BatchNorm."""

    def build(hook, accumulate=1, wrapper='OptimWrapper', **watch):
        backbone = {'model.backbone.arch': 'xxsmall_bnhs', 'model.backbone.drop_path_rate': 0.5}
        config = load_config(DIGITS_CONFIG, backbone)
        config.train_dataloader.dataset.data_root = str(few_digits)
        config.train_dataloader.dataset.pipeline[1].scale = 32
        config.optim_wrapper.update(type=wrapper, accumulative_counts=accumulate)
        config.custom_hooks = [dict(type='EMAHook', momentum=0.1, update_buffers=True)]
        return make_runner(config, request, tmp_path, hook, **watch)

    return build


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def differ(a, b):
    return any(not torch.equal(a[0][k], b[0][k]) for k in a[0] if k.endswith('weight'))


def test_a_loss_that_is_not_finite_stops_the_run(make, tmp_path):
    runner, record = make(poison.PoisonImages([3]))
    with pytest.raises(UserError) as caught:
        runner.train()
    message = str(caught.value)
    assert 'Iteration 3 (epoch 1, learning rate 0.002): the loss is not finite (loss nan' in message
    assert message.count('.png') == 8
    path = tmp_path / 'non_finite_iter_3.pth'
    assert f'is saved in {path}' in message
    assert 'loss_watch.policy=skip' in message
    weights, _ = record.states[-1]
    assert len(record.states) == 3
    for name, value in runner.model.named_parameters():
        assert_same(value.detach(), weights[name])

    model, (losses,) = replay(path)
    assert losses['loss'].isnan()
    assert next(model.parameters()).grad.isnan().any()
    content = torch.load(path, weights_only=False)
    assert_same(content['state_dict'], dict(weights))
    assert content['optimizer']['param_groups'][0]['lr'] == 0.002
    paths = [sample.img_path for batch in content['batches'] for sample in batch['data_samples']]
    assert [name in message for name in paths] == [True] * 8


def test_gradients_alone_stop_the_run(make, tmp_path):
    runner, _ = make(poison.PoisonGradients([3]))
    with pytest.raises(UserError, match=r'Iteration 3 .*: gradients are not finite \(loss 2\.'):
        runner.train()
    path = tmp_path / 'non_finite_iter_3.pth'
    _, losses = replay(path)
    stored = torch.load(path, weights_only=False)['losses']
    assert_same(losses, stored)
    assert_same(replay(path)[1], stored)


def test_a_skipped_step_leaves_no_trace(make, tmp_path):
    runner, record = make(poison.PoisonImages([3]), policy='skip')
    runner.train()
    before, after = record.states[2:4]
    assert_same(dict(before[0]), dict(after[0]))
    assert_same(before[1], after[1])
    assert differ(record.states[3], record.states[4])
    average = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    assert all(value.isfinite().all() for value in average.state_dict().values())
    (log,) = tmp_path.glob('*/*.log')
    assert 'Skipped this step, number 1 so far' in log.read_text()


def test_accumulated_iterations_are_one_step(make, tmp_path):
    runner, record = make(poison.PoisonImages([3]), accumulate=2, policy='skip')
    runner.train()
    assert differ(record.states[1], record.states[2])
    assert not differ(record.states[2], record.states[4])
    assert_same(record.states[2][0], record.states[4][0])
    assert differ(record.states[4], record.states[5])
    _, losses = replay(tmp_path / 'non_finite_iter_4.pth')
    assert [math.isfinite(parts['loss']) for parts in losses] == [False, True]


def test_too_many_skips_stop_it(make, tmp_path):
    runner, _ = make(poison.PoisonImages([2, 3, 4]), policy='skip', max_skips=2)
    with pytest.raises(UserError, match=r'Iteration 4 .* 2 steps were skipped before'):
        runner.train()
    assert {p.name for p in tmp_path.glob('*.pth')} == {
        'non_finite_iter_2.pth',
        'non_finite_iter_4.pth',
    }


@pytest.fixture
def amp_on_cpu(monkeypatch):
    """Enables mixed precision on the CPU, which torch supports and mmengine refuses."""
    scaler = functools.partial(torch.amp.GradScaler, device='cpu', init_scale=4.0)
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', scaler)
    monkeypatch.setattr(runner_module, 'can_train_with_amp', lambda: True)


@pytest.mark.usefixtures('amp_on_cpu')
def test_overflows_of_mixed_precision_do_not_count(make):
    runner, record = make(poison.PoisonGradients([2, 3]), wrapper='AmpOptimWrapper')
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() == 1
    assert not differ(record.states[1], record.states[3])
    assert differ(record.states[3], record.states[4])


@pytest.mark.usefixtures('amp_on_cpu')
def test_too_many_overflows_count(make, monkeypatch):
    monkeypatch.setattr('edgenext_mm.engine.hooks.loss_watch_hook.MAX_OVERFLOWS', 2)
    runner, _ = make(poison.PoisonGradients([2, 3, 4]), wrapper='AmpOptimWrapper')
    with pytest.raises(UserError, match=r'Iteration 4 .*: gradients are not finite'):
        runner.train()


@pytest.mark.usefixtures('amp_on_cpu')
def test_a_loss_counts_with_mixed_precision(make, tmp_path):
    runner, _ = make(poison.PoisonImages([3]), wrapper='AmpOptimWrapper')
    with pytest.raises(UserError, match=r'Iteration 3 .*: the loss is not finite'):
        runner.train()
    _, (losses,) = replay(tmp_path / 'non_finite_iter_3.pth')
    assert losses['loss'].isnan()


@pytest.mark.parametrize('task', DENSE)
def test_dense_tasks_can_be_replayed(task, request, tmp_path, scenes_root):
    config = load_config(ROOT / 'configs' / DENSE[task], {'model.backbone.init_cfg': None})
    config.train_dataloader.dataset.data_root = f'{scenes_root}/'
    runner, _ = make_runner(config, request, tmp_path, poison.PoisonGradients([1]))
    with pytest.raises(UserError, match=r'Iteration 1 .*: gradients are not finite .*0000\.png'):
        runner.train()
    path = tmp_path / 'non_finite_iter_1.pth'
    _, losses = replay(path)
    assert_same(losses, torch.load(path, weights_only=False)['losses'])


def test_it_can_be_disabled(make, request, tmp_path):
    config = load_config(DIGITS_CONFIG, {'loss_watch': None})
    config.work_dir, config.experiment_name = str(tmp_path), request.node.name
    assert 'LossWatchHook' not in {type(hook).__name__ for hook in build_runner(config).hooks}


def test_an_unknown_policy_is_refused(make):
    with pytest.raises(UserError, match="policy must be one of stop, skip, got 'ignore'"):
        make(poison.PoisonImages([1]), policy='ignore')


def test_other_files_are_not_replayed(digits_checkpoint, tmp_path):
    with pytest.raises(UserError, match='There is no file'):
        replay(tmp_path / 'none.pth')
    with pytest.raises(UserError, match='was not written by the loss watch'):
        replay(digits_checkpoint)
