from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from edgenext_mm.engine.hooks.history_hook import HistoryHook


@pytest.mark.parametrize(('length', 'kept'), [(3, 5), (7, 7)])
def test_histories_have_the_given_length_or_that_of_an_epoch(length, kept, request):
    hub = MessageHub.get_instance(request.node.name)
    runner = SimpleNamespace(message_hub=hub, train_dataloader=range(5))
    hook = HistoryHook(length)
    for step in range(15):
        hub.update_scalar('train/loss', 10.0 + step, count=2)
        hook.after_train_iter(runner)
    values, counts = hub.get_scalar('train/loss').data
    assert values.tolist() == [25.0 - kept + i for i in range(kept)]
    assert counts.tolist() == [2] * kept
    assert hub.get_scalar('train/loss').mean(2) == (23 + 24) / (2 + 2)
