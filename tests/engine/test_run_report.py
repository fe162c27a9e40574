"""The report on trainings that ended in different ways."""

import json
import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from paths import ROOT

from edgenext_mm.engine.run_report import examine_run
from edgenext_mm.errors import UserError

LONG_AGO = time.time() - 9000
VALUES = [
    dict(loss=2.5, lr=0.004, epoch=1, iter=5, step=5),
    dict(step=1, **{'accuracy/top1': 30.0}),
    dict(loss=1.25, lr=0.002, epoch=2, iter=10, step=10),
]
WORKER = 'Caught UserError in worker 0.\nOriginal Traceback (most recent ...):\nUserError'
RECORD = dict(
    state='running', host=socket.gethostname(), pid=2**22 + 1, process_start='7', rank=0,
    world_size=1, launcher='none', command=['tools/train.py'], config='/configs/birds.py',
    max_epochs=3, max_iters=None,
)  # fmt: skip


def reason(kind, message, lost_connection=False, file='loader.py'):
    lines = ['Traceback (most recent call last):', f'  File "/site/{file}", line 7, in load']
    lines += f'{kind}: {message}'.splitlines()
    return dict(type=kind, message=message, lost_connection=lost_connection, traceback=lines)


@pytest.fixture
def work(tmp_path):
    """The work folder of a training with two checkpoints and a best one."""
    logs = tmp_path / '20261127_120000'
    (logs / 'vis_data').mkdir(parents=True)
    write_record(tmp_path)
    log_values(tmp_path, VALUES)
    for epoch in (1, 2):
        meta = dict(epoch=epoch, iter=5 * epoch)
        torch.save(dict(meta=meta, x=torch.zeros(9999)), tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (LONG_AGO, LONG_AGO + epoch))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    hub = dict(runtime_info=dict(best_score=31.25))
    torch.save(dict(message_hub=hub), tmp_path / 'best_accuracy_top1_epoch_1.pth')
    return tmp_path


def write_record(work, rank=0, **changes):
    name = f'run_rank{rank}.json' if rank else 'run.json'
    content = {**RECORD, 'rank': rank, 'end_time': 9 - rank, **changes}
    next(work.glob('2*')).joinpath(name).write_text(json.dumps(content))


def log_values(work, values):
    path = next(work.glob('2*')) / 'vis_data' / 'scalars.json'
    path.write_text('\n'.join(map(json.dumps, values)) + '\n{"loss": 0.9')  # cut by a kill


def report(work):
    finished, findings = examine_run(work)
    return finished, {finding.name: finding for finding in findings}


def test_a_finished_run(work):
    write_record(work, state='finished')
    finished, found = report(work)
    assert finished
    assert {name: finding.state for name, finding in found.items()} == {
        'run': 'finished, epoch 2 of 3, iteration 10',
        'last loss': '1.25, learning rate 0.002',
        'last validation': 'accuracy/top1 30 at step 1',
        'checkpoint': f'{work}/epoch_2.pth (epoch 2, iter 10)',
        'best checkpoint': f'{work}/best_accuracy_top1_epoch_1.pth (score 31.25)',
    }
    assert not any(finding.fix for finding in found.values())


def test_a_killed_run_can_be_resumed(work):
    finished, found = report(work)
    assert not finished
    state = 'ended without a recorded reason after epoch 2 of 3, iteration 10: it was killed'
    assert found['run'].state.startswith(state)
    command = f'python tools/train.py {work}/birds.py --work-dir {work} --resume'
    assert found['run'].fix == command


@pytest.mark.parametrize(('state', 'status'), [('finished', 0), ('running', 1)])
def test_the_status_of_the_tool(work, state, status, monkeypatch, capsys):
    write_record(work, state=state)
    monkeypatch.setattr('sys.argv', ['doctor.py', '--run', str(work)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'tools' / 'doctor.py'), run_name='__main__')
    assert ended.value.code == status
    shown = capsys.readouterr().out
    assert 'epoch 2 of 3, iteration 10' in shown
    assert ('python tools/train.py' in shown) == bool(status)


def test_damaged_checkpoints_are_named_and_skipped(work):
    for name in ('epoch_2.pth', 'best_accuracy_top1_epoch_1.pth'):
        (work / name).write_bytes((work / name).read_bytes()[:500])
    _, findings = examine_run(work)
    assert [finding.fix for finding in findings if finding.name == 'damaged'] == [
        f'rm {work}/epoch_2.pth', f'rm {work}/best_accuracy_top1_epoch_1.pth',
    ]  # fmt: skip
    _, found = report(work)
    assert found['checkpoint'].state == f'{work}/epoch_1.pth (epoch 1, iter 5)'
    assert found['run'].fix.endswith('--resume')
    assert 'best checkpoint' not in found


@pytest.mark.parametrize('damaged', [True, False])
def test_without_a_checkpoint_the_training_starts_again(work, damaged):
    for path in work.glob('*.pth'):
        path.write_bytes(b'') if damaged else path.unlink()
    _, found = report(work)
    assert found['checkpoint'].state == 'none that can be read'
    assert found['run'].fix.endswith(f'--work-dir {work}')


@pytest.mark.parametrize(
    ('error', 'state', 'fix'),
    [
        (reason('OSError', '[Errno 28] No space left on device'), 'by OSError on rank 0', 'free'),
        (reason('OutOfMemoryError', 'CUDA out of memory.'), 'CUDA', 'lower train_dataloader'),
        (reason('RuntimeError', 'DataLoader worker (pid 7) is killed by'), 'pid 7', 'num_workers'),
        (
            reason(
                'ConnectionResetError', 'reset', file='dataloader.py", line 9, in _try_get_data'
            ),
            'reset',
            'num_workers',
        ),
        (reason('RuntimeError', 'closed by peer', True), 'closed', 'another process ended first'),
        (reason('UserError', f'{WORKER}: a.png is cut short'), 'on rank 0: UserError: a.png', ''),
        (reason('UserError', 'the loss is not finite'), 'the loss is', 'docs/training.md'),
        (reason('SystemExit', '75'), 'was told to stop, epoch 2 of 3', 'python tools/train.py'),
        (
            reason('KeyboardInterrupt', ''),
            'was told to stop, epoch 2 of 3',
            'python tools/train.py',
        ),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else None,
)
def test_the_reason_of_the_end(work, error, state, fix):
    write_record(work, state='stopped', reason=error)
    finished, found = report(work)
    assert not finished
    assert state in found['run'].state
    assert fix in found['run'].fix
    assert '--resume' in found['run'].fix


def test_the_first_error_of_several_processes(work):
    """Rank 1 fails, rank 2 loses its connection earlier by the clock, rank 0 is told to stop."""
    write_record(work, rank=0, state='stopped', reason=reason('SystemExit', '75'))
    write_record(work, rank=1, state='stopped', reason=reason('KeyError', "'x'", file='mine.py'))
    write_record(work, rank=2, state='stopped', reason=reason('RuntimeError', 'peer', True))
    _, found = report(work)
    assert (
        found['run'].state == "stopped after epoch 2 of 3, iteration 10 by KeyError on rank 1: 'x'"
    )
    assert found['raised in'].state.startswith('File /site/mine.py, line 7, in load; ')


def test_a_loss_that_is_not_finite_is_reported(work):
    log_values(work, [*VALUES[:2], {**VALUES[2], 'loss': float('nan')}])
    assert report(work)[1]['loss'].state == 'not finite: nan at iteration 10'


def test_a_run_on_another_host(work):
    write_record(work, host='elsewhere')
    assert report(work)[1]['run'].state.startswith('probably running on elsewhere, epoch 2')
    for file in work.rglob('*'):
        os.utime(file, (LONG_AGO, LONG_AGO))
    assert report(work)[1]['run'].state.startswith('ended without a recorded reason')


def test_a_run_on_this_host_lasts_as_long_as_its_process(work):
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1) as process:
        ticks = Path(f'/proc/{process.pid}/stat').read_text().split()[21]
        write_record(work, pid=process.pid, process_start=ticks)
        finished, found = report(work)
        write_record(work, pid=process.pid, process_start='7')  # another process had this number
        assert report(work)[1]['run'].state.startswith('ended without a recorded reason')
        process.communicate(b'\n')
    assert not finished
    assert found['run'].state.startswith(f'running as process {process.pid}, epoch 2 of 3')
    assert found['run'].fix == ''


def test_runs_of_other_programs_have_a_shorter_report(work):
    next(work.glob('*/run.json')).unlink()
    finished, found = report(work)
    assert not finished
    assert found['run'].state.startswith('unknown: not started by edgenext_mm.Runner, iteration 10')
    assert 'epoch_2.pth' in found['checkpoint'].state


def test_a_later_test_of_the_model_is_not_reported(work):
    (work / '20261128_120000').mkdir()
    assert 'epoch 2 of 3' in report(work)[1]['run'].state


@pytest.mark.parametrize(
    ('launcher', 'start'),
    [('pytorch', 'dist_train.sh {}/birds.py 2'), ('slurm', 'slurm_train.sh PARTITION JOB {}/')],
)
def test_launchers_are_part_of_the_command(work, launcher, start):
    write_record(work, launcher=launcher, world_size=2)
    assert report(work)[1]['run'].fix.startswith(f'bash tools/{start.format(work)}')


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match='There is no folder'):
        examine_run(tmp_path / 'none')
    with pytest.raises(UserError, match='is not the work folder of a training'):
        examine_run(tmp_path)
