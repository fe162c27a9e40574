"""The histories of logged values are limited."""

import pytest
import torch

from edgenext_mm.engine.hooks.history_hook import HistoryHook
from edgenext_mm.engine.runner import build_runner


@pytest.fixture
def runner(digits_training):
    """A training of three epochs of five iterations."""
    return build_runner(digits_training(batch_size=8, max_epochs=3))


@pytest.mark.parametrize(('length', 'kept'), [(3, 5), (7, 7)])
def test_histories_have_the_given_length_or_that_of_an_epoch(runner, length, kept, tmp_path):
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, HistoryHook)]
    assert hook.length == 10_000
    hook.length = length
    losses = []
    runner.model.register_forward_hook(
        lambda model, args, output: (
            losses.append(float(output['loss'].detach())) if isinstance(output, dict) else None
        )
    )
    runner.train()
    hub = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)['message_hub']
    for history in (hub['log_scalars']['train/loss'], runner.message_hub.get_scalar('train/loss')):
        values, counts = history.data
        assert values.tolist() == pytest.approx(losses[-kept:])
        assert len(counts) == kept
    assert len(losses) == 15
