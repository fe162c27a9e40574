"""Training in several processes, on one host and on two."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from paths import DIGITS_CONFIG, ROOT, free_port
from running import distributed_environment, run_distributed
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from edgenext_mm.config import load_config
from edgenext_mm.engine.first_failure import recorded
from edgenext_mm.engine.run_report import examine_run
from edgenext_mm.engine.runner import build_runner

# Plain gradient descent on fixed images, so that rounding stays rounding.
CONFIG = f"""
_base_ = '{DIGITS_CONFIG}'
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(data_root='{{root}}', pipeline=_base_.test_pipeline), batch_size=4, **loader
)
val_dataloader = dict(dataset=dict(data_root='{{root}}'), batch_size=4, **loader)
val_evaluator = dict(collect_device='gpu')  # the hosts share no folder
test_dataloader, test_evaluator = val_dataloader, val_evaluator
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1))
param_scheduler = []
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=1, val_interval=1)
"""
FAILING = """
import os

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FailsInRank1(Hook):
    def after_train_iter(self, runner, **kwargs):
        if os.environ['RANK'] == '1' and runner.iter == 2:
            raise ValueError('the third step was one too many')
"""


@pytest.fixture(scope='module')
def config(few_digits, tmp_path_factory):
    """A config on 40 digits, with 19 for validation, which two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp('config')
    for split in ('train', 'val'):
        for image in sorted((few_digits / split).rglob('*.png'))[split == 'val' :]:
            target = folder / 'data' / image.relative_to(few_digits)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(image)
    path = folder / 'mine.py'
    path.write_text(CONFIG.format(root=folder / 'data'))
    return path


class Training:
    """A run of ``tools/dist_train.sh`` in the background."""

    def __init__(self, config, processes, work_dir, *options, cwd=ROOT, **environment):
        work_dir.mkdir(exist_ok=True)
        self.work_dir = work_dir
        self.log_file = work_dir / 'output.txt'
        with self.log_file.open('w') as log:
            self.process = psutil.Popen(
                ['bash', ROOT / 'tools' / 'dist_train.sh', config, str(processes),
                 '--work-dir', work_dir, *options],
                env=distributed_environment(**environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
            )  # fmt: skip

    @property
    def log(self):
        return self.log_file.read_text()

    def wait_for(self, text, seconds=120):
        end = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, self.log[-4000:]
            assert time.monotonic() < end, self.log[-4000:]
            time.sleep(0.1)

    def rank(self, number):
        return next(c for c in self.process.children() if c.environ()['RANK'] == str(number))

    def fails(self, seconds):
        """Asserts that all processes end in time with an error; returns the reported cause."""
        family = [self.process, *self.process.children(recursive=True)]
        _, alive = psutil.wait_procs(family, timeout=seconds)
        for process in alive:
            process.kill()
        assert not alive, self.log[-4000:]
        assert self.process.returncode == 1
        return self.log.partition('Root Cause (first observed failure)')[2]


@pytest.fixture
def training(config, tmp_path, request):
    """A long training in two processes that has begun."""
    options = ['--cfg-options', 'train_cfg.max_epochs=1000', 'train_cfg.val_interval=1000',
               'default_hooks.checkpoint.interval=1000', *request.param]  # fmt: skip
    # torchrun sees the ends of all processes at once, whichever came first.
    environment = dict(PET_MONITOR_INTERVAL='4')
    training = Training(config, 2, tmp_path / 'work', *options, **environment)
    training.wait_for('Epoch(train)')
    yield training
    for process in (
        training.process.children(recursive=True) if training.process.is_running() else []
    ):
        process.kill()


@pytest.mark.parametrize('training', [[]], indirect=True, ids=['killed'])
def test_a_killed_process_ends_the_others(training):
    training.rank(1).kill()
    cause = training.fails(seconds=60)
    assert re.search(r'rank +: 1 ', cause)
    assert 'Signal 9 (SIGKILL)' in cause
    assert 'This process lost its connection to another one' in training.log
    assert 'another process ended first' in examine_run(training.work_dir).findings[0].fix


LOST = '[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:52231'


@pytest.mark.parametrize('text', [LOST, 'NCCL error ... ncclRemoteError: A call failed'])
@pytest.mark.parametrize('killed', [0, 1])
def test_the_killed_process_is_the_root_cause(killed, text, tmp_path, monkeypatch):
    """By torchrun's rules, even if it notices the kill 20 s after the other process ends."""

    def main():
        raise RuntimeError(text)

    path = tmp_path / 'error.json'
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(path))
    with pytest.raises(RuntimeError):
        recorded(main)()
    survivor = ProcessFailure(1 - killed, 7, 1, str(path))
    victim = ProcessFailure(killed, 8, -signal.SIGKILL, str(tmp_path / 'none'))
    victim.timestamp += 20
    error = ChildFailedError('train.py', {1 - killed: survivor, killed: victim})
    assert error.get_first_failure() == (killed, victim)
    assert text in str(error)
    assert 'lost its connection to another one' in str(error)


def test_other_errors_keep_their_time(tmp_path, monkeypatch):
    """A lost connection to a data loading process can be the cause."""

    def main():
        raise ConnectionResetError('[Errno 104] Connection reset by peer')

    path = tmp_path / 'error.json'
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(path))
    with pytest.raises(ConnectionResetError):
        recorded(main)()
    assert ProcessFailure(0, 7, 1, str(path)).timestamp <= time.time()


@pytest.mark.parametrize(
    'training', [['env_cfg.dist_cfg.timeout=15']], indirect=True, ids=['hanging']
)
def test_a_process_that_hangs_ends_the_others(training):
    hanging = training.rank(1)
    hanging.send_signal(signal.SIGSTOP)
    training.wait_for('Timed out waiting 15000ms', seconds=60)
    hanging.send_signal(signal.SIGCONT)  # else torchrun kills it half a minute later
    training.fails(seconds=60)


def test_the_first_error_is_the_one_that_is_shown(config, tmp_path):
    (tmp_path / 'failing.py').write_text(FAILING)
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{config}'\ncustom_imports = dict(imports=['edgenext_mm', 'failing'])\n"
        "custom_hooks = [dict(type='FailsInRank1')]"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    training = Training(tmp_path / 'mine.py', 2, tmp_path / 'work', PYTHONPATH=paths)
    cause = training.fails(seconds=120)
    assert re.search(r'rank +: 1 ', cause)
    assert 'ValueError: the third step was one too many' in cause
    first = re.search(r'\w+Error: .*', training.log)
    assert first[0] == 'ValueError: the third step was one too many'
    state = examine_run(tmp_path / 'work').findings[0].state
    assert 'by ValueError on rank 1: the third step was one too many' in state


def test_all_processes_skip_the_same_step(config, tmp_path):
    """The second process gets an infinity: both skip, and only the second one saves its batch."""
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{config}'\ncustom_imports = dict(imports=['edgenext_mm', 'poison'])\n"
        "custom_hooks = [dict(type='PoisonImages', iterations=[2], rank=1)]\n"
        "loss_watch = dict(policy='skip')"
    )
    paths = os.pathsep.join([f'{ROOT}/tests/engine', os.environ.get('PYTHONPATH', '')])
    arguments = [tmp_path / 'mine.py', '2', '--work-dir', tmp_path]
    run_distributed('dist_train.sh', *arguments, PYTHONPATH=paths)
    assert [p.name for p in tmp_path.glob('non_finite*')] == ['non_finite_iter_2_rank1.pth']
    weights = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    (log,) = tmp_path.glob('*/*.log')
    assert 'Iteration 2 (epoch 1' in log.read_text()


EXPLODING = """
import os

from mmpretrain.models.losses import LabelSmoothLoss
from mmpretrain.registry import MODELS


@MODELS.register_module()
class ExplodesInRank1(LabelSmoothLoss):
    steps = 0

    def forward(self, *args, **kwargs):
        self.steps += 1
        factor = 1e6 if os.environ['RANK'] == '1' and self.steps > 20 else 1.0
        return super().forward(*args, **kwargs) * factor
"""


def test_the_learning_rate_finder_stops_in_all_processes(config, tmp_path):
    """The loss of one process explodes after 20 steps."""
    (tmp_path / 'exploding.py').write_text(EXPLODING)
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{config}'\ncustom_imports = dict(imports=['edgenext_mm', 'exploding'])\n"
        "model = dict(head=dict(loss=dict(type='ExplodesInRank1')))"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    arguments = [tmp_path / 'mine.py', '2', '--work-dir', tmp_path / 'work', '--find-lr']
    run_distributed('dist_train.sh', *arguments, PYTHONPATH=paths)
    found = json.loads((tmp_path / 'work' / 'lr_finder.json').read_text())
    assert len(found['rates']) == 20


UNUSED_MAP = f"""
_base_ = '{ROOT}/configs/detection/gfl_edgenext-xxsmall_fpn_digits.py'
load_from = None
model = dict(
    backbone=dict(init_cfg=None, out_indices=(0, 1, 2, 3), output_norms=True),
    neck=dict(in_channels=[24, 48, 88, 168], start_level=1),
)
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{{root}}/'))
val_dataloader, val_cfg, val_evaluator = None, None, None
test_dataloader, test_cfg, test_evaluator = None, None, None
custom_hooks = []
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))
train_cfg = dict(max_epochs=1)
"""


def test_parameters_of_an_unused_map_are_named(scenes_root, tmp_path):
    """DistributedDataParallel waits for the gradient of its norm in the next step."""
    (tmp_path / 'mine.py').write_text(UNUSED_MAP.format(root=scenes_root))
    training = Training(tmp_path / 'mine.py', 2, tmp_path / 'work')
    training.fails(seconds=120)
    (line, *_) = [line for line in training.log.splitlines() if line.startswith('error: ')]
    assert 'parameters: backbone.norm0.weight, backbone.norm0.bias. ' in line
    assert 'remove them from model.backbone.out_indices' in line
    assert 'set `find_unused_parameters = True`' in line


def train_alone(config, work_dir, **options):
    """One process; returns the runner."""
    config = load_config(config, options)
    config.work_dir, config.experiment_name = str(work_dir), work_dir.name
    runner = build_runner(config)
    runner.train()
    return runner


def test_two_hosts_train_and_validate_as_one_process_does(config, tmp_path):
    """Batches of 8: at once, accumulated, and on two hosts that share no folder."""
    hosts = [tmp_path / 'host0', tmp_path / 'host1']
    trainings, port = [], free_port()
    for rank, host in enumerate(hosts):
        host.mkdir()
        network = dict(NNODES='2', NODE_RANK=str(rank), MASTER_ADDR='127.0.0.2', PORT=port)
        trainings.append(Training(config, 1, host, cwd=host, **network))
    alone = train_alone(config, tmp_path / 'alone', **{'train_dataloader.batch_size': 8})
    steps = train_alone(config, tmp_path / 'steps', **{'optim_wrapper.accumulative_counts': 2})
    for training in trainings:
        assert training.process.wait(120) == 0, training.log[-4000:]

    weights = torch.load(hosts[0] / 'epoch_1.pth', weights_only=False)['state_dict']
    expected = alone.model.state_dict()
    for other in (weights, steps.model.state_dict()):
        torch.testing.assert_close(dict(other), dict(expected), rtol=1e-3, atol=1e-5)

    # The metric of 19 images is the same from two processes, of which one counts an image twice.
    alone.model.load_state_dict(weights)
    (scalars,) = hosts[0].glob('*/vis_data/scalars.json')
    logged = [r for r in map(json.loads, scalars.read_text().splitlines()) if 'loss' not in r]
    assert [r['accuracy/top1'] for r in logged] == [alone.val_loop.run()['accuracy/top1']]
    assert logged[0]['accuracy/top1'] > 0

    # Only the first process writes.
    assert {p.name for p in hosts[1].rglob('*') if p.is_file()} == {'output.txt'}
    assert Path(hosts[0], 'mine.py').is_file()
