"""What the doctor says of trainings that ended in one way or another."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.engine.run_record import FINISHED, STARTED
from edgenext_mm.engine.run_report import examine_run
from edgenext_mm.errors import UserError

LONG_AGO = time.time() - 9000


@pytest.fixture(scope='module')
def finished(tmp_path_factory, run_tool, few_digits):
    """The work folder of a training of two epochs."""
    folder = tmp_path_factory.mktemp('runs') / 'work'
    data = [f'{split}_dataloader.dataset.data_root={few_digits}' for split in ('train', 'val')]
    run_tool(
        'train.py', DIGITS_CONFIG, '--work-dir', folder, '--cfg-options', *data,
        'train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=8',
    )  # fmt: skip
    return folder


@pytest.fixture
def work(finished, tmp_path):
    """A copy of it, to spoil."""
    return shutil.copytree(finished, tmp_path / 'work', symlinks=True)


def log_of(work):
    (path,) = work.glob('*/*.log')
    return path


def cut_log(work, *, at=FINISHED, host=None, age=None, more=''):
    """Ends a log before a word, as if the run had ended there, on a host and some time ago."""
    path = log_of(work)
    assert at in path.read_text()
    text = path.read_text().partition(at)[0].rpartition('\n')[0] + '\n' + more
    path.write_text(text.replace(socket.gethostname(), host) if host else text)
    if age is not None:
        for file in work.rglob('*'):
            os.utime(file, (time.time() - age,) * 2)


def kill_in_second_epoch(work, **kwargs):
    """Leaves what a run has written when its second epoch is not yet saved."""
    for path in (work / 'epoch_2.pth', *work.glob('best_*.pth')):
        path.unlink()
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    (scalars,) = work.glob('*/vis_data/scalars.json')
    lines = scalars.read_text().splitlines()
    scalars.write_text('\n'.join([*lines[:2], lines[2][:20]]))
    cut_log(work, at='Epoch(train) [2]', **kwargs)


def report(work):
    finished, findings = examine_run(work)
    return finished, {finding.name: finding for finding in findings}


def test_a_finished_run_is_finished(finished, run_tool):
    shown = run_tool('doctor.py', '--run', finished).stdout
    assert 'finished, epoch 2 of 2, iteration 10' in shown
    assert f'{finished}/epoch_2.pth (epoch 2, iter 10)' in shown
    assert 'WRONG' not in shown
    done, found = report(finished)
    assert done
    best = next(finished.glob('best_*.pth'))
    (scalars,) = finished.glob('*/vis_data/scalars.json')
    scores = [json.loads(line).get('accuracy/top1', 0) for line in scalars.read_text().splitlines()]
    assert found['best checkpoint'].state == f'{best} (score {max(scores):.4g})'
    assert f'accuracy/top1 {scores[-1]:.4g}' in found['last validation'].state


def test_a_killed_run_is_resumed_by_the_command_given(work, few_digits):
    kill_in_second_epoch(work, age=9000)
    done, found = report(work)
    assert not done
    run = found['run']
    assert run.state.startswith('ended without a word after epoch 1 of 2, iteration 5')
    copy = work / 'edgenext-xxsmall_digits.py'
    assert run.mend == f'python tools/train.py {copy} --work-dir {work} --resume'
    subprocess.run(
        [sys.executable, *run.mend.split()[1:]], cwd=ROOT, check=True, capture_output=True
    )
    assert report(work)[0]
    assert (work / 'epoch_2.pth').is_file()


def test_the_status_tells(work, run_tool):
    kill_in_second_epoch(work, age=9000)
    assert 'fix: python tools/train.py' in run_tool('doctor.py', '--run', work, status=1).stdout


def test_a_truncated_checkpoint_is_named_and_passed_over(work):
    cut_log(work, age=9000)
    for path in (work / 'epoch_2.pth', *work.glob('best_*.pth')):
        path.write_bytes(path.read_bytes()[:100_000])
    os.utime(work / 'epoch_1.pth', (LONG_AGO, LONG_AGO - 9))
    _, found = report(work)
    assert 'epoch_1.pth (epoch 1, iter 5)' in found['checkpoint'].state
    assert 'cut short' in found['damaged'].state
    assert found['run'].mend.endswith(f'--resume {work / "epoch_1.pth"}')
    assert 'best checkpoint' not in found


def test_a_run_without_a_checkpoint_starts_anew(work):
    cut_log(work, age=9000)
    for path in work.glob('*.pth'):
        path.unlink()
    _, found = report(work)
    assert found['checkpoint'].state == 'none that can be read'
    assert found['run'].mend.endswith(f'--work-dir {work}')


def test_an_error_of_the_training_is_told(run_tool, few_digits, tmp_path):
    """One that no tool foresees, in the midst of mmengine."""
    data = [f'{split}_dataloader.dataset.data_root={few_digits}' for split in ('train', 'val')]
    done = run_tool(
        'train.py', DIGITS_CONFIG, '--work-dir', tmp_path, '--cfg-options', *data,
        'optim_wrapper.accumulative_counts=0', status=1,
    )  # fmt: skip
    assert 'Traceback' in done.stderr
    finished, found = report(tmp_path)
    assert not finished
    state = found['run'].state
    assert 'before the first logged iteration: on process 0 by AssertionError: ' in state
    assert '__init__, ' in found['raised in'].state
    assert 'optimizer_wrapper.py' in found['raised in'].state
    assert log_of(tmp_path).read_text().rstrip().endswith(done.stderr.splitlines()[-1])


#: Of a data loading process that is killed before it has ended.
BROKEN_CONNECTION = """ConnectionResetError: [Errno 104] Connection reset by peer
Traceback (most recent call last):
  File "torch/utils/data/dataloader.py", line 1310, in _try_get_data
    data = self._data_queue.get(timeout=timeout)
ConnectionResetError: [Errno 104] Connection reset by peer"""


def stopped(by):
    return f'2026/11/22 00:42:29 - mmengine - ERROR - Run stopped on process 1 by {by}\n'


@pytest.mark.parametrize(
    ('error', 'state', 'mend'),
    [
        ('OSError: [Errno 28] No space left on device', 'on process 1 by OSError', 'free some'),
        ('OutOfMemoryError: CUDA out of memory.', 'by OutOfMemoryError', 'lower train_dataloader'),
        ('RuntimeError: DataLoader worker (pid 7) is killed by', 'pid 7', 'num_workers'),
        (BROKEN_CONNECTION, 'reset by peer', 'num_workers'),
        (
            'RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:7',
            'on process 1 by RuntimeError',
            'another process ended first',
        ),
        ('UserError: Iteration 3: the loss is not finite', 'the loss is', 'training.md'),
        ('SystemExit: 75', 'was told to stop, epoch 1 of 2', 'python tools/train.py'),
        ('KeyboardInterrupt: ', 'was told to stop, epoch 1 of 2', 'python tools/train.py'),
    ],
)
def test_the_reason_is_understood(work, error, state, mend):
    kill_in_second_epoch(work, more=stopped(error))
    done, found = report(work)
    assert not done
    assert state in found['run'].state
    assert mend in found['run'].mend
    assert '--resume' in found['run'].mend


def test_a_loss_that_was_not_finite_is_pointed_out(work):
    (scalars,) = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    next(line for line in lines if line.get('iter') == 10)['loss'] = float('nan')
    scalars.write_text('\n'.join(map(json.dumps, lines)))
    assert report(work)[1]['loss'].state == 'not finite: nan at iteration 10'


def test_a_run_elsewhere_may_go_on(work):
    kill_in_second_epoch(work, host='elsewhere')
    assert report(work)[1]['run'].state.startswith('running on elsewhere, as it seems, epoch 1')
    for file in work.rglob('*'):
        os.utime(file, (LONG_AGO, LONG_AGO))
    assert report(work)[1]['run'].state.startswith('ended without a word')


def test_a_run_here_goes_on_while_its_process_does(work):
    kill_in_second_epoch(work)
    log = log_of(work)
    with subprocess.Popen([sys.executable, '-c', 'input()', 'tools/train.py'], stdin=-1) as process:
        me = dict(host=socket.gethostname(), pid=process.pid, command=['tools/train.py'])
        text = log.read_text()
        line = next(line for line in text.splitlines() if STARTED in line)
        log.write_text(text.replace(line, STARTED + json.dumps(me)))
        done, found = report(work)
        process.communicate(b'\n')
    assert not done
    assert found['run'].state.startswith(f'running as process {process.pid}, epoch 1 of 2')
    assert found['run'].mend == ''
    assert report(work)[1]['run'].state.startswith('ended without a word')


def test_runs_of_other_tools_are_understood(work):
    """mmengine's own log says neither who started a run nor that it is over."""
    log = log_of(work)
    lines = log.read_text().splitlines()
    log.write_text('\n'.join(line for line in lines if 'Run ' not in line))
    assert report(work)[0]
    kill_in_second_epoch(work, age=9000)
    assert not report(work)[0]


def test_two_processes_are_resumed_as_two(work):
    kill_in_second_epoch(work, age=9000)
    log = log_of(work)
    text = log.read_text().replace('Distributed launcher: none', 'Distributed launcher: pytorch')
    log.write_text(text.replace('GPU number: 1', 'GPU number: 2'))
    assert report(work)[1]['run'].mend.startswith(f'bash tools/dist_train.sh {work}')
    assert ' 2 --work-dir ' in report(work)[1]['run'].mend


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match='There is no folder'):
        examine_run(tmp_path / 'none')
    with pytest.raises(UserError, match='is no work folder of a training'):
        examine_run(tmp_path)
