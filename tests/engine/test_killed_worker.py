"""A data loading process that is killed, as the kernel does when memory runs out."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from edgenext_mm.engine.run_record import recorded_run
from edgenext_mm.engine.run_report import examine_run
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KillLoader:
    """Kills the data loading process at a sample; at the first one by default."""

    def __init__(self, sample=None):
        self.sample = sample

    def __call__(self, results):
        if self.sample in (None, results['sample_idx']):
            os.kill(os.getpid(), signal.SIGKILL)
        return results


class BrokenConnectionError(ConnectionError):
    """A lost connection to a process that is killed while the error is recorded."""

    def __init__(self, process):
        self.process = process

    def __str__(self):
        if self.process.is_alive():
            self.process.kill()
            time.sleep(60)  # PyTorch's signal handler raises here
        return 'reset by peer'


@pytest.fixture
def runner(digits_training, request):
    config = digits_training(8, 1)
    config.custom_imports.imports.append(__name__)
    config.train_dataloader.num_workers = 1
    kill = dict(type='edgenext_mm.KillLoader', sample=getattr(request, 'param', None))
    config.train_dataloader.dataset.pipeline.insert(1, kill)
    return build_runner(config)


@pytest.mark.parametrize('runner', [None, 30], indirect=True, ids=['first', 'later'])
def test_a_killed_worker_is_reported(runner):
    """If batches are on their way, the broken connection may be seen first."""
    expected = (RuntimeError, ConnectionError, EOFError)
    with pytest.raises(expected, match=r'worker|onnection|^$'):
        runner.train()
    check_report(runner)


def test_an_error_while_another_is_recorded(runner):
    images = iter(DataLoader(range(2), num_workers=1))
    with pytest.raises(RuntimeError, match='killed by signal'), recorded_run(runner):
        raise BrokenConnectionError(images._workers[0])
    check_report(runner)
    record = json.loads(Path(runner.log_dir, 'run.json').read_text())
    assert any('BrokenConnectionError: reset by' in line for line in record['reason']['traceback'])


def check_report(runner):
    finished, findings = examine_run(runner.work_dir)
    assert not finished
    run = next(finding for finding in findings if finding.name == 'run')
    assert 'a data loading process was killed' in run.fix
    assert run.state.startswith('stopped before the first logged iteration')
