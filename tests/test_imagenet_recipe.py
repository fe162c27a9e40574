"""The ImageNet-1K configs against the paper's recipe.

Source: section 4.2 of the paper, and the defaults of https://github.com/mmaaz60/EdgeNeXt.
"""

import math

import pytest
from mmengine.optim import build_optim_wrapper
from paths import ROOT
from schedules import learning_rates

from edgenext_mm.config import load_config
from edgenext_mm.datasets.multi_scale_sampler import multi_scale_shapes
from edgenext_mm.models.building import build_model

FOLDER = ROOT / 'configs' / 'classification'
NAMES = [
    'base', 'small', 'small_bnhs', 'xsmall', 'xsmall_bnhs', 'xxsmall', 'xxsmall_bnhs', 'small-224px'
]  # fmt: skip


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def config(name):
    arch, _, crop = name.partition('-')
    return load_config(FOLDER / f'edgenext-{arch}_8xb256_in1k{crop and "-"}{crop}.py')


def test_all_of_the_papers_trainings_are_there():
    others = {'edgenext-small_rw_8xb256_in1k'}  # timm's
    assert len({path.stem for path in FOLDER.glob('*_8xb256_in1k*.py')} - others) == len(NAMES)


def test_optimiser_and_model(config, name):
    wrapper, optimizer = config.optim_wrapper, config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.eps) == ('AdamW', 6e-3, 1e-8)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert wrapper.type == 'AmpOptimWrapper'
    assert 'clip_grad' not in wrapper
    # 8 GPUs x 256 images x 2 accumulated steps = 4096.
    batch = config.train_dataloader.batch_size, config.auto_scale_lr.base_batch_size
    assert (*batch, wrapper.accumulative_counts) == (256, 2048, 2)
    assert config.train_cfg.max_epochs == 300
    (ema,) = config.custom_hooks
    assert (ema.type, ema.momentum, ema.interval) == ('EMAHook', 0.0005, 2)  # decay 0.9995
    assert ema.evaluate_on_origin
    assert config.model.head.loss.label_smooth_val == 0.1
    light = name.startswith(('xxsmall', 'xsmall'))
    assert config.model.backbone.get('drop_path_rate', 0) == (0 if light else 0.1)
    augments = [(a.type, a.alpha) for a in config.model.get('train_cfg', {}).get('augments', ())]
    assert augments == ([('Mixup', 0.8), ('CutMix', 1.0)] if name == 'base' else [])


def test_images(config, name):
    light, size = name.startswith(('xxsmall', 'xsmall')), 224 if '224' in name else 256
    train = {
        step['type'].rpartition('.')[2]: step for step in config.train_dataloader.dataset.pipeline
    }
    crop = train['MultiScaleRandomResizedCrop']
    assert (crop.scale, crop.interpolation) == (size, 'bicubic')
    assert train['RandomFlip'].prob == 0.5
    assert 'RandomErasing' not in train
    assert ('TableColorJitter' in train, 'RandAugment' in train) == (light, not light)
    if light:
        jitter = train['TableColorJitter']
        assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.4, 0.4, 0.4)
    else:  # rand-m9-mstd0.5-inc1
        augment = train['RandAugment']
        assert (augment.policies, augment.num_policies) == ('timm_increasing', 2)
        assert (augment.magnitude_level, augment.total_level) == (9, 10)
        assert augment.magnitude_std == 0.5
    sampler = dict(config.train_dataloader.batch_sampler)
    assert sampler.pop('type').endswith('MultiScaleBatchSampler')
    shapes = multi_scale_shapes(256, **sampler, world_size=8)
    assert [shape.batch_size for shape in shapes] == (
        [504, 352, 256, 256, 256, 256] if size == 224 else [656, 456, 256, 256, 256]
    )
    _, resize, center_crop, _ = config.test_dataloader.dataset.pipeline
    assert (resize.scale, resize.interpolation) == (int(size / 0.875), 'bicubic')
    assert center_crop.crop_size == size


def test_learning_rates(config):
    rates = learning_rates(config, epoch_length=50)
    assert len(rates) == 300 * 50
    for epoch in (0, 10, 20, 160, 299):
        cosine = 1e-6 + (6e-3 - 1e-6) * (1 + math.cos(math.pi * (epoch - 20) / 280)) / 2
        expected = 6e-3 * epoch / 20 if epoch < 20 else cosine
        assert rates[epoch * 50] == pytest.approx(expected, rel=2e-3, abs=1e-8)


@pytest.mark.parametrize('name', ['small', 'small_bnhs'])
def test_parameters_of_one_dimension_do_not_decay(config):
    model = build_model(config)
    settings = {**config.optim_wrapper, 'type': 'OptimWrapper'}
    del settings['loss_scale']
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    decays = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for name, p in model.named_parameters():
        assert decays[id(p)] == (0 if p.ndim == 1 or name.endswith('.bias') else 0.05), name
