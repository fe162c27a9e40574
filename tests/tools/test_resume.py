"""tools/train.py, killed, told to stop and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.engine.run_report import examine_run

CONFIG = """
_base_ = '{base}'
custom_imports = dict(
    imports=['edgenext_mm', 'benchmarks.kill_hook', 'waiting'],
    allow_failed_imports=False,
)
train_dataloader = dict(
    batch_size=4, num_workers=1, persistent_workers=True, dataset=dict(data_root='{data}')
)
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type='EMAHook', momentum=0.1),
    dict(type='edgenext_mm.KillHook'),
    dict(type='WaitsForSignal'),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4, max_keep_ckpts=1))
train_cfg = dict(max_epochs=2, val_interval=1)
"""
WAITING = """
import os
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class WaitsForSignal(Hook):
    def after_train_iter(self, runner, **kwargs):
        if os.environ.get('WAIT') and runner.iter == 9:
            Path(runner.work_dir, 'waits').touch()
            while not Path(runner.work_dir, 'go').exists():
                time.sleep(0.02)
"""


def start(config, work_dir, kill='', wait=''):
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--resume']
    paths = os.pathsep.join([str(work_dir.parent), str(ROOT)])
    with work_dir.with_suffix('.log').open('a') as log:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=dict(os.environ, EDGENEXT_MM_KILL=kill, WAIT=wait, PYTHONPATH=paths),
            start_new_session=True,
        )


def finish(process, work_dir, status=0):
    """Waits for the end and returns the output."""
    process.wait()
    output = work_dir.with_suffix('.log').read_text()
    assert process.returncode == status, output[-3000:]
    return output


def last_of(work):
    return Path(work, 'last_checkpoint').read_text().rpartition('/')[2]


def test_killed_while_saving_then_told_to_stop(tmp_path, few_digits):
    """The weights after two epochs of ten steps equal those of an uninterrupted training."""
    config, whole, work = (tmp_path / name for name in ('config.py', 'whole', 'work'))
    config.write_text(CONFIG.format(base=DIGITS_CONFIG, data=few_digits))
    (tmp_path / 'waiting.py').write_text(WAITING)
    finish(start(config, whole), whole)

    finish(start(config, work, 'checkpoint writing:2'), work, -signal.SIGKILL)
    (incomplete,) = work.glob('.*.pth')
    assert last_of(work) == 'iter_4.pth'
    _, (run, *_) = examine_run(work)
    assert run.state.startswith('ended without a recorded reason')
    command = ['python', 'tools/train.py', work / 'config.py', '--work-dir', work, '--resume']
    assert run.fix == ' '.join(map(str, command))

    process = start(work / 'config.py', work, wait='yes')
    while not (work / 'waits').exists():
        assert process.poll() is None
        time.sleep(0.02)
    assert last_of(work) == 'iter_8.pth'
    # The whole group gets the signal, as data loading processes do under SLURM.
    os.killpg(process.pid, signal.SIGTERM)
    (work / 'go').touch()
    output = finish(process, work, 75)
    assert f'Load checkpoint from {work}/iter_4.pth' in output
    assert 'Told to stop (SIGTERM): saved interrupted.pth' in output
    assert last_of(work) == 'interrupted.pth'
    assert examine_run(work).findings[0].state.startswith('was told to stop')
    assert not incomplete.exists()

    output = finish(start(config, work), work)
    assert f'Load checkpoint from {work}/interrupted.pth' in output
    assert not (work / 'interrupted.pth').exists()
    assert examine_run(work).finished
    a, b = (torch.load(folder / 'iter_20.pth', weights_only=False) for folder in (whole, work))
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(dict(a[key]), dict(b[key]), rtol=0, atol=0)
    torch.testing.assert_close(a['optimizer'], b['optimizer'], rtol=0, atol=0)


@pytest.mark.parametrize(('job', 'calls'), [('', ''), ('17', 'requeue 17\n')])
def test_a_stopped_batch_job_is_requeued(job, calls, tmp_path):
    for name, script in {'srun': 'exit 75', 'scontrol': f'echo "$@" > {tmp_path}/calls'}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\n{script}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'calls').touch()
    done = subprocess.run(
        ['bash', ROOT / 'tools/slurm_train.sh', 'gpus', 'name', 'CONFIG', '--resume'],
        env=dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_JOB_ID=job),
    )
    assert done.returncode == 75
    assert (tmp_path / 'calls').read_text() == calls
