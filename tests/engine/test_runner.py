"""What a training leaves behind in its process, however it ends."""

import signal

import pytest
from mmengine.hooks import Hook

from edgenext_mm.engine.hooks.interruption_hook import SIGNALS
from edgenext_mm.engine.runner import build_runner


def before(number, frame):
    """A handler of the program that trains."""


class EndsTraining(Hook):
    """Ends a training at its second iteration."""

    def __init__(self, how):
        self.how = how

    def before_train_iter(self, runner, **_):
        assert signal.getsignal(signal.SIGTERM) is not before
        if runner.iter == 1:
            if isinstance(self.how, signal.Signals):
                signal.raise_signal(self.how)
            elif self.how is not None:
                raise self.how('on purpose')


@pytest.fixture
def handlers():
    """The handlers of the signals, one of them the program's own."""
    original = signal.signal(signal.SIGTERM, before)
    yield [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGTERM, original)


@pytest.fixture
def build(digits_training):
    """Builds a training of two iterations that ends in some way."""

    def build(how, **options):
        config = digits_training(2, 1)
        for loader in (config.train_dataloader, config.val_dataloader):
            loader.dataset.indices = 4
        config.update(options)
        runner = build_runner(config)
        runner.register_hook(EndsTraining(how))
        return runner

    return build


@pytest.mark.parametrize(
    ('how', 'error'),
    [
        (None, None),
        (ValueError, ValueError),
        (KeyboardInterrupt, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGUSR1, SystemExit),
    ],
)
def test_signal_handlers_and_hooks_are_restored(build, handlers, how, error):
    runner = build(how)
    if error is None:
        runner.train()
    else:
        with pytest.raises(error):
            runner.train()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert not runner.model._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_a_training_that_was_told_to_stop_can_be_started_again(build, handlers):
    runner = build(signal.SIGTERM)
    with pytest.raises(SystemExit):
        runner.train()
    next(h for h in runner.hooks if isinstance(h, EndsTraining)).how = None
    runner.train()
    assert runner.iter == 2
