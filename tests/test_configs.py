"""Every shipped config loads, builds, trains, predicts, and is what its name says."""

import re
import time

import pytest
import torch
from conftest import ROOT
from generated_data import shrink, with_generated_data
from mmengine.config import Config

from edgenext_mm import inference_model
from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.data import check_data
from edgenext_mm.apis.model import build_model
from edgenext_mm.apis.runner import build_runner
from edgenext_mm.evaluation.models import EdgeNeXtClassifier

CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/**/*.py'))
IN1K = [path for path in CONFIGS if path.stem.endswith('_in1k')]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_configs_of_all_tasks():
    assert {path.parent.name for path in CONFIGS} == {
        'classification', 'detection', 'segmentation', 'rotated_detection'
    }  # fmt: skip
    assert len(IN1K) == 4


def test_the_parts_of_the_model_fit(path):
    """`build_model` compares the channels of detectors and segmentors."""
    model = build_model(load_config(path))
    if hasattr(model, 'head'):
        assert model.head.fc.in_features == model.backbone.arch.dims[-1]
        assert model.backbone.final_norm is not None


def test_one_training_step_and_one_inference(path, scenes_root, few_digits, tmp_path):
    """On generated data of the config's own format, the full model at reduced input."""
    config = with_generated_data(load_config(path), scenes_root, few_digits, tmp_path / 'data')
    check_data(config, 'train', 'val')
    shrink(config)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.work_dir, config.log_level = str(tmp_path / 'work'), 'ERROR'
    config.experiment_name = f'{path.stem}-{time.time_ns()}'
    runner = build_runner(config)
    data = next(iter(runner.build_dataloader(config.train_dataloader)))
    optim_wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    before = [p.detach().clone() for p in runner.model.parameters()]
    runner.model.train()
    for _ in range(config.optim_wrapper.get('accumulative_counts', 1)):
        losses = runner.model.train_step(data, optim_wrapper)
    assert all(loss.isfinite().all() for loss in losses.values())
    changed = [(a != b).any() for a, b in zip(before, runner.model.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)

    runner.model.eval()
    loader = runner.build_dataloader(config.val_dataloader)
    evaluator = runner.build_evaluator(config.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    data = next(iter(loader))
    with torch.no_grad():
        samples = runner.model.val_step(data)
    assert len(samples) == len(data['data_samples'])
    evaluator.process(samples, data)
    evaluator.evaluate(len(samples))

    runner.model.cfg, runner.model.dataset_meta = config, loader.dataset.metainfo
    result = inference_model(runner.model, scenes_root / 'val' / 'images' / '0000.png')
    assert set(result) & {'pred_label', 'bboxes', 'sem_seg'}


def test_the_name_tells_arch_batch_and_schedule(path):
    config = load_config(path)
    arch = re.search(r'edgenext-([a-z_]+?)_', path.stem)[1]
    assert config.model.backbone.arch == arch
    if found := re.search(r'_(\d+)xb(\d+)', path.stem):
        gpus, batch = map(int, found.groups())
        assert config.train_dataloader.batch_size == batch
        assert config.auto_scale_lr.base_batch_size == gpus * batch
    if found := re.search(r'-(\d+)([ex])_', path.stem):
        assert config.train_cfg.max_epochs == int(found[1]) * {'e': 1, 'x': 12}[found[2]]
    if found := re.search(r'-(\d+)x(\d+)$', path.stem):
        assert config.model.data_preprocessor.size == tuple(map(int, found.groups()))


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
