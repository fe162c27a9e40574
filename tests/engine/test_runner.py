"""How a training ends: signal handlers, hooks and the record of the run."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from edgenext_mm.checkpoints.latest import check_resumable
from edgenext_mm.engine.hooks.interruption_hook import SIGNALS
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError


def handle(number, frame):
    """A signal handler of the program that trains."""


class EndsTraining(Hook):
    """Ends a training in its second iteration."""

    def __init__(self, how):
        self.how = how

    def before_train_iter(self, runner, **_):
        assert signal.getsignal(signal.SIGTERM) is not handle
        assert record_of(runner)['state'] == 'running'
        if runner.iter == 1:
            if isinstance(self.how, signal.Signals):
                signal.raise_signal(self.how)
            elif self.how is not None:
                raise self.how('on purpose')


def record_of(runner):
    return json.loads(Path(runner.log_dir, 'run.json').read_text())


@pytest.fixture
def handlers():
    """The handlers of the signals, one of them the program's own."""
    original = signal.signal(signal.SIGTERM, handle)
    yield [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGTERM, original)


@pytest.fixture
def build(digits_training):
    """Builds a training of two iterations that ends in a given way."""

    def build(how=None):
        config = digits_training(2, 1)
        for loader in (config.train_dataloader, config.val_dataloader):
            loader.dataset.indices = 4
        runner = build_runner(config)
        runner.register_hook(EndsTraining(how))
        return runner

    return build


@pytest.mark.parametrize(
    ('how', 'error', 'message'),
    [
        (ValueError, ValueError, 'on purpose'),
        (KeyboardInterrupt, KeyboardInterrupt, 'on purpose'),
        (signal.SIGTERM, SystemExit, '75'),
    ],
)
def test_a_training_that_stops(build, handlers, how, error, message):
    runner = build(how)
    with pytest.raises(error):
        runner.train()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert not runner.model._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks
    record = record_of(runner)
    assert record['state'] == 'stopped'
    assert (record['reason']['type'], record['reason']['message']) == (error.__name__, message)
    assert record['reason']['traceback'][-1] == f'{error.__name__}: {message}'


def test_a_training_that_finishes_after_it_was_told_to_stop(build, handlers):
    runner = build(signal.SIGUSR1)
    with pytest.raises(SystemExit):
        runner.train()
    next(h for h in runner.hooks if isinstance(h, EndsTraining)).how = None
    runner.train()
    assert runner.iter == 2
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    record = record_of(runner)
    assert record.pop('process_start') == Path('/proc/self/stat').read_text().split()[21]
    assert record.pop('end_time') > record.pop('start_time')
    config = str(Path(runner.cfg.filename).resolve())
    assert record == dict(
        state='finished', host=os.uname().nodename, pid=os.getpid(), rank=0, world_size=1,
        launcher='none', command=sys.argv, config=config, max_epochs=1, max_iters=None,
        resumed_from=None, last_checkpoint=str(Path(runner.work_dir, 'epoch_1.pth')),
    )  # fmt: skip


def test_other_ranks_record_only_failures(build, monkeypatch):
    runner = build(ValueError)
    monkeypatch.setattr(EndsTraining, 'before_train_iter', lambda self, runner, **_: 1 / 0)
    monkeypatch.setattr(type(runner), 'rank', 3)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    (path,) = Path(runner.log_dir).glob('run*.json')
    assert path.name == 'run_rank3.json'
    assert json.loads(path.read_text())['reason']['type'] == 'ZeroDivisionError'


def test_a_record_that_cannot_be_written_does_not_end_the_training(build, monkeypatch):
    monkeypatch.delattr(EndsTraining, 'before_train_iter')
    runner = build()
    Path(runner.log_dir, 'run.json').mkdir()
    errors = []
    runner.logger.error = errors.append
    next(h for h in runner.hooks if isinstance(h, EndsTraining)).before_train_iter = (
        lambda *_, **__: None
    )
    runner.train()
    assert runner.iter == 2
    assert [error.partition(':')[0] for error in errors] == [
        'Could not write the record of this run'
    ] * 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'default_hooks.checkpoint.every': 2}, 'no setting every. It takes .*interval'),
        ({'loss_watch.max_skip': 3}, '`loss_watch` is .*It takes `policy`'),
    ],
)
def test_unknown_settings_of_hooks_are_errors_at_the_start(digits_training, options, message):
    config = digits_training(2, 1)
    config.merge_from_dict(options)
    with pytest.raises(UserError, match=message):
        build_runner(config)


def test_the_work_folder_has_the_name_of_the_config(digits_training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = digits_training(2, 1)
    config.pop('work_dir')
    runner = build_runner(config)
    assert Path(runner.work_dir) == tmp_path / 'work_dirs' / Path(config.filename).stem


def test_the_best_weights_are_not_a_state_to_resume_from(tmp_path):
    path = tmp_path / 'best_accuracy_epoch_1.pth'
    torch.save(dict(meta=dict(iter=4, epoch=1), state_dict={}), path)
    with pytest.raises(UserError, match=r'cannot resume from .*best_.*contains only weights'):
        check_resumable(path)
