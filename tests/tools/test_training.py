"""What a user does: train, resume, test, infer, look at the pictures."""

import json
import os
import subprocess

import pytest
import torch
from paths import DIGITS_CONFIG, ROOT
from PIL import Image
from running import run_distributed, run_in_process

from edgenext_mm.config import load_config

TWO_EPOCHS = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=8')
HALF_SIZE = [f'{split}_dataloader.dataset.pipeline.1.scale=32' for split in ('train', 'val')]


def options(root, *more):
    data = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]
    return ('--cfg-options', *data, *TWO_EPOCHS, *more)


def scalars(work):
    logs = sorted(work.glob('*/vis_data/scalars.json'))
    return [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]


@pytest.fixture(scope='module')
def work(tmp_path_factory, run_tool, few_digits):
    """A training of two epochs on 40 images."""
    folder = tmp_path_factory.mktemp('work')
    run_tool('train.py', DIGITS_CONFIG, '--work-dir', folder, *options(few_digits))
    return folder


def test_training_leaves_checkpoints_with_classes(work):
    checkpoint = torch.load(work / 'epoch_2.pth', weights_only=False)
    assert checkpoint['meta']['dataset_meta']['classes'] == tuple('0123456789')
    assert checkpoint['meta']['epoch'] == 2


def test_resuming_continues_after_the_last_epoch(work, few_digits):
    more = options(few_digits, 'train_cfg.max_epochs=3')
    result = run_in_process('train.py', DIGITS_CONFIG, '--work-dir', work, '--resume', *more)
    assert not result.error
    epochs = [r['epoch'] for r in scalars(work)[-1] if 'loss' in r]
    assert epochs == [3]


def test_testing_writes_metrics(work, few_digits, tmp_path):
    out = tmp_path / 'metrics.json'
    result = run_in_process(
        'test.py', DIGITS_CONFIG, work / 'epoch_2.pth', '--work-dir', tmp_path, '--out', out,
        *options(few_digits),
    )  # fmt: skip
    assert not result.error
    val = [r for r in scalars(work)[0] if 'accuracy/top1' in r]
    assert json.loads(out.read_text())['accuracy/top1'] == pytest.approx(val[-1]['accuracy/top1'])


def test_inference_prints_json_and_draws_a_grid(work, few_digits, tmp_path):
    result = run_in_process(
        'infer.py', DIGITS_CONFIG, few_digits / 'val', '--checkpoint', work / 'epoch_2.pth',
        '--json', '--out', tmp_path,
    )  # fmt: skip
    results = json.loads(result.stdout)
    assert len(results) == 20
    assert set(results[0]) == {'image', 'pred_label', 'pred_score', 'pred_class', 'pred_scores'}
    assert Image.open(tmp_path / 'predictions.png').width > 500


def test_curves_are_drawn(work):
    assert not run_in_process('analysis/plot_curves.py', work).error
    assert Image.open(work / 'curves.png').width > 500


def test_the_demo_learns(digits_root, tmp_path):
    """Four of the demo's thirty epochs, on half-size images, are enough to read most digits."""
    result = run_in_process(
        'train.py', DIGITS_CONFIG, '--work-dir', tmp_path,
        *options(digits_root, 'train_cfg.max_epochs=4', 'train_dataloader.batch_size=64',
                 'train_cfg.val_interval=4', 'param_scheduler.1.end=4', *HALF_SIZE),
    )  # fmt: skip
    assert not result.error
    (accuracy,) = [r['accuracy/top1'] for r in scalars(tmp_path)[0] if 'accuracy/top1' in r]
    assert accuracy >= 80


def test_the_learning_rate_scales_with_the_batch_size(few_digits, tmp_path):
    result = run_in_process(
        'train.py', DIGITS_CONFIG, '--work-dir', tmp_path, '--auto-scale-lr',
        *options(few_digits, 'train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=8',
                 'default_hooks.logger.interval=1', 'param_scheduler=[]'),
    )  # fmt: skip
    assert not result.error
    (rate,) = [r['lr'] for r in scalars(tmp_path)[0] if 'loss' in r]
    config = load_config(DIGITS_CONFIG)
    base = config.optim_wrapper.optimizer.lr
    assert rate == pytest.approx(base * 8 / config.auto_scale_lr.base_batch_size)


def test_mixed_precision_without_a_gpu_is_an_error(few_digits, monkeypatch):
    monkeypatch.setattr('edgenext_mm.engine.hardware.get_device', lambda: 'cpu')
    error = run_in_process('train.py', DIGITS_CONFIG, '--amp', *options(few_digits)).error
    assert '--amp needs a GPU, and this machine has none' in error


def test_two_processes_train_without_a_gpu(few_digits, tmp_path):
    """20 images per process: 8 of 48 pixels, 4 of 64, 4 of 80, and the last 4 of 48."""
    config = DIGITS_CONFIG.with_name('edgenext-xxsmall_digits-multi-scale.py')
    stderr = run_distributed(
        'dist_train.sh', config, '2', '--work-dir', tmp_path,
        *options(few_digits, 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'),
    )  # fmt: skip
    assert 'do not match bucket view strides' not in stderr
    train = next(r for r in scalars(tmp_path)[0] if 'loss' in r)
    assert train['iter'] == 4


def test_an_error_is_one_paragraph_and_status_1(run_tool):
    done = run_tool('train.py', 'configs/none.py', status=1)
    assert 'The config file configs/none.py does not exist' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_a_missing_data_folder_is_an_error_that_says_how_to_fix_it(tool, digits_checkpoint):
    arguments = [DIGITS_CONFIG] + [digits_checkpoint] * (tool == 'test.py')
    error = run_in_process(tool, *arguments, *options('none')).error
    assert f"The folder 'none/{'train' if tool == 'train.py' else 'val'}' of" in error
    assert 'tools/dataset_converters/digits.py' in error


def test_testing_refuses_weights_of_another_head(few_digits, tmp_path, digits_checkpoint):
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        for digit in range(7):
            (tmp_path / split / str(digit)).symlink_to(few_digits / split / str(digit))
    more = options(tmp_path, 'model.head.num_classes=7')
    result = run_in_process(
        'test.py', DIGITS_CONFIG, digits_checkpoint, '--work-dir', tmp_path, *more
    )
    assert 'head.fc.weight (10x168' in result.error


@pytest.mark.parametrize(
    ('setting', 'resume', 'message'),
    [
        (['model.head.num_classes=7'], [], 'model.head is for 7 classes, but the data has 10'),
        (['model.backbone.arch=tiny'], [], "Unknown EdgeNeXt arch 'tiny'. Choose"),
        (['load_from=none.pth'], [], 'There is no checkpoint none.pth'),
        ([], ['--resume', 'none.pth'], 'There is no checkpoint none.pth'),
    ],
)
def test_mistakes_are_errors(few_digits, tmp_path, setting, resume, message):
    arguments = ['--work-dir', tmp_path, *options(few_digits, *setting), *resume]
    assert message in run_in_process('train.py', DIGITS_CONFIG, *arguments).error


def test_variables_become_options_of_slurm(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    done = subprocess.run(
        ['bash', str(ROOT / 'tools/slurm_train.sh'), 'gpus', 'name', 'CONFIG', '--amp'],
        env=dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', PYTHON='python3'),
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.split()
    for word in ('--partition=gpus', '--ntasks=4', '--gres=gpu:4', '--cpus-per-task=8'):
        assert word in words
    assert words[-4:] == ['CONFIG', '--launcher', 'slurm', '--amp']


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_launch_scripts_explain_themselves(script):
    done = subprocess.run(['bash', str(ROOT / 'tools' / script)], capture_output=True, text=True)
    assert done.returncode == 2
    assert f'bash tools/{script}' in done.stderr
