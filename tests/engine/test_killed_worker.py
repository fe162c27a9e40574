"""A data loading process that the kernel kills, as it does where memory runs out."""

import os
import signal
import time
from pathlib import Path

import pytest
from paths import DIGITS_CONFIG
from torch.utils.data import DataLoader

from edgenext_mm.config import load_config
from edgenext_mm.engine.run_record import logged_end
from edgenext_mm.engine.run_report import examine_run
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KillLoader:
    """Ends the process that loads, as the kernel does: at its first image, or at a given one."""

    def __init__(self, sample=None):
        self.sample = sample

    def __call__(self, results):
        if self.sample in (None, results['sample_idx']):
            os.kill(os.getpid(), signal.SIGKILL)
        return results


class BrokenConnectionError(ConnectionError):
    """What a training may see first of a process that is killed: while it is told, the rest."""

    def __init__(self, process):
        self.process = process

    def __str__(self):
        if self.process.is_alive():
            self.process.kill()
            time.sleep(60)  # the handler of the signal raises within it
        return 'reset by peer'


@pytest.fixture
def runner(few_digits, tmp_path, request):
    config = load_config(DIGITS_CONFIG)
    config.work_dir, config.experiment_name = str(tmp_path), request.node.name
    config.custom_imports.imports.append(__name__)
    config.train_dataloader.update(batch_size=8, num_workers=1)
    config.train_dataloader.dataset.data_root = str(few_digits)
    config.train_dataloader.dataset.pipeline.insert(
        1, dict(type='edgenext_mm.KillLoader', sample=getattr(request, 'param', None))
    )
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.default_hooks.checkpoint.update(save_best=None)
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    return build_runner(config)


def check_report(folder):
    finished, findings = examine_run(folder)
    assert not finished
    run = next(finding for finding in findings if finding.name == 'run')
    assert 'a data loading process was killed' in run.mend
    assert run.state.startswith('stopped before the first logged iteration')


def test_the_run_ends_with_its_name_and_the_doctor_knows_why(runner):
    with pytest.raises(RuntimeError, match='worker'), logged_end(runner):
        runner.train()
    check_report(runner.work_dir)


@pytest.mark.parametrize('runner', [30], indirect=True)
def test_batches_may_be_under_way(runner):
    """Then their broken connection may be what is seen."""
    expected = (RuntimeError, ConnectionError, EOFError)
    with pytest.raises(expected, match=r'worker|onnection|^$'), logged_end(runner):
        runner.train()
    check_report(runner.work_dir)


def test_an_error_while_another_is_written_is_written_too(runner):
    images = iter(DataLoader(range(2), num_workers=1))
    with pytest.raises(RuntimeError, match='killed by signal'), logged_end(runner):
        raise BrokenConnectionError(images._workers[0])
    check_report(runner.work_dir)
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'BrokenConnectionError: reset by peer' in log.read_text()
