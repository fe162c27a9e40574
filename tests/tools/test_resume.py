"""A run that is killed and resumed ends as one that was not."""

import json
import subprocess
import sys
import time

import pytest
import torch
from conftest import DIGITS_CONFIG, ROOT

CONFIG = """
_base_ = '{root}/configs/classification/edgenext-xxsmall_digits-multi-scale.py'
custom_imports = dict(
    imports=[
        'edgenext_mm',
        'edgenext_mm.datasets.transforms',
        'edgenext_mm.models.classifiers.distilled_classifier',
    ],
    allow_failed_imports=False,
)
model = dict(
    type='edgenext_mm.DistilledClassifier', teacher='{teacher}', teacher_checkpoint='{weights}'
)
# Nothing random but the order and the sizes, which the sampler decides on.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='edgenext_mm.MultiScaleRandomResizedCrop',
        scale=64,
        crop_ratio_range=(1, 1),
        aspect_ratio_range=(1, 1),
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root='{data}', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
custom_hooks = [dict(type='EMAHook', momentum=0.1, update_buffers=True, evaluate_on_origin=True)]
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=4, val_interval=4)
"""


def train(config, work_dir, *options):
    command = [
        sys.executable,
        ROOT / 'tools' / 'train.py',
        config,
        '--work-dir',
        work_dir,
        *options,
    ]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )


@pytest.fixture(scope='module')
def runs(tmp_path_factory, few_digits, digits_checkpoint):
    """Work folders of a run of four epochs, and of one that was killed after its first."""
    folder = tmp_path_factory.mktemp('resume')
    config = folder / 'config.py'
    config.write_text(
        CONFIG.format(root=ROOT, teacher=DIGITS_CONFIG, weights=digits_checkpoint, data=few_digits)
    )
    whole, killed = folder / 'whole', folder / 'killed'
    output, _ = train(config, whole).communicate()
    assert (whole / 'epoch_4.pth').is_file(), output[-3000:]

    process = train(config, killed)
    mark = killed / 'last_checkpoint'
    while not mark.is_file() or not mark.read_text().endswith('epoch_1.pth'):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (killed / 'epoch_4.pth').exists()
    output, _ = train(config, killed, '--resume').communicate()
    assert (killed / 'epoch_4.pth').is_file(), output[-3000:]
    return whole, killed


def test_weights_and_averages_are_the_same(runs):
    a, b = (torch.load(run / 'epoch_4.pth', weights_only=False) for run in runs)
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(dict(a[key]), dict(b[key]), rtol=0, atol=0)
    assert a['optimizer']['param_groups'][0]['lr'] == b['optimizer']['param_groups'][0]['lr']


def test_losses_and_rates_go_on_as_they_would_have(runs):
    def scalars(run):
        logs = sorted(run.glob('*/vis_data/scalars.json'))
        records = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        return {r['step']: (r['lr'], r['loss'], r['loss_kd']) for r in records if 'loss_kd' in r}

    whole, killed = map(scalars, runs)
    assert len(whole) > 20
    assert whole == killed
