"""Every shipped config loads, builds, and is what its name says."""

import re

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope

from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.model import build_model
from edgenext_mm.evaluation.models import EdgeNeXtClassifier

CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/**/*.py'))
IN1K = [path for path in CONFIGS if path.stem.endswith('_in1k')]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_configs():
    assert len(CONFIGS) >= 6
    assert len(IN1K) == 4


def test_the_model_builds_with_a_head_that_fits(path):
    model = build_model(load_config(path))
    assert model.head.fc.in_features == model.backbone.arch.dims[-1]
    assert model.backbone.final_norm is not None


def test_pipelines_build(path):
    config = load_config(path)
    init_default_scope(config.default_scope)
    for split in ('train', 'val', 'test'):
        for transform in config[f'{split}_dataloader'].dataset.pipeline:
            TRANSFORMS.build(transform)


def test_the_name_tells_arch_batch_and_schedule(path):
    config = load_config(path)
    arch = re.match(r'edgenext-([a-z_]+?)_', path.stem)[1]
    assert config.model.backbone.arch == arch
    if found := re.search(r'_(\d+)xb(\d+)', path.stem):
        gpus, batch = map(int, found.groups())
        assert config.train_dataloader.batch_size == batch
        assert config.auto_scale_lr.base_batch_size == gpus * batch
    if found := re.search(r'-(\d+)e_', path.stem):
        assert config.train_cfg.max_epochs == int(found[1])


def test_schedules_end_with_the_training(path):
    config = load_config(path)
    assert config.param_scheduler[-1].end == config.train_cfg.max_epochs


def test_siblings_are_short():
    for path in IN1K:
        assert len(path.read_text().splitlines()) < 25


@pytest.mark.parametrize('path', IN1K, ids=lambda path: path.stem)
def test_imagenet_configs_hold_the_recipe(path):
    config = load_config(path)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 6e-3, 0.05)
    effective = config.auto_scale_lr.base_batch_size * config.optim_wrapper.accumulative_counts
    assert effective == 4096
    assert config.train_cfg.max_epochs == 300
    assert config.param_scheduler[0].end == 20
    assert config.model.head.loss.label_smooth_val == 0.1
    resize, crop = config.test_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.edge, resize.interpolation) == (292, 'short', 'bicubic')
    assert crop.crop_size == 256


@pytest.mark.parametrize(
    ('name', 'rate'), [('xxsmall', 0), ('xsmall', 0), ('small', 0.1), ('base', 0.1)]
)
def test_drop_path_is_the_papers(name, rate):
    config = load_config(ROOT / f'configs/classification/edgenext-{name}_8xb256_in1k.py')
    assert config.model.backbone.get('drop_path_rate', 0) == rate


def test_nothing_one_dimensional_decays():
    from mmengine.optim import build_optim_wrapper

    config = load_config(ROOT / 'configs/classification/edgenext-small_8xb256_in1k.py')
    model = EdgeNeXtClassifier('small')
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    decays = {
        id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']
    }
    for name, p in model.named_parameters():
        expected = 0 if p.ndim <= 1 or name.endswith('.bias') else 0.05
        assert decays[id(p)] == expected, name


def test_warm_up_starts_near_zero_and_cosine_ends_low():
    import torch
    from mmengine.optim import OptimWrapper
    from mmengine.registry import PARAM_SCHEDULERS

    config = Config.fromfile(ROOT / 'configs/_base_/schedules/in1k_300e.py')
    wrapper = OptimWrapper(torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=6e-3))
    schedulers = [
        PARAM_SCHEDULERS.get(s.pop('type')).build_iter_from_epoch(
            **{k: v for k, v in s.items() if k != 'convert_to_iter_based'},
            optimizer=wrapper.optimizer,
            epoch_length=10,
        )
        for s in config.param_scheduler
    ]
    rates = []
    for _ in range(3000):
        rates.append(wrapper.optimizer.param_groups[0]['lr'])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] < 1e-7
    assert max(rates) == pytest.approx(6e-3)
    assert rates.index(max(rates)) in range(198, 202)
    assert rates[-1] == pytest.approx(1e-6, rel=0.01)
