"""Every shipped config loads, builds, trains, predicts, and is what its name says."""

import re
import time

import pytest
import torch
from generated_data import shrink, with_generated_data
from mmengine.registry import MODELS
from paths import ROOT

from edgenext_mm import inference_model
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.models.building import build_model

CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/**/*.py'))
IN1K = [path for path in CONFIGS if '_in1k' in path.stem]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_configs_of_all_tasks():
    assert {path.relative_to(ROOT / 'configs').parts[0] for path in CONFIGS} == {
        'classification', 'detection', 'segmentation', 'rotated_detection'
    }  # fmt: skip
    assert len(IN1K) > 20


def test_the_parts_of_the_model_fit(path):
    """`build_model` compares the channels of detectors and segmentors."""
    model = build_model(load_config(path))
    if hasattr(model, 'head'):
        assert model.head.fc.in_features == model.backbone.arch.dims[-1]
        assert model.backbone.final_norm is not None


def give_weights_to_teacher(model, path):
    """Random ones, in a file, since nothing is downloaded here."""
    if isinstance(model.teacher, str):
        teacher = build_model(load_config(model.teacher))
    else:
        model.teacher.pretrained = False
        teacher = MODELS.build(model.teacher)
    torch.save(teacher.state_dict(), path)
    model.teacher_checkpoint = str(path)


def test_one_training_step_and_one_inference(path, scenes_root, few_digits, tmp_path):
    """On generated data of the config's own format, the full model at reduced input."""
    config = with_generated_data(load_config(path), scenes_root, few_digits, tmp_path / 'data')
    check_data(config, 'train', 'val')
    if 'teacher' in config.model:
        give_weights_to_teacher(config.model, tmp_path / 'teacher.pth')
    shrink(config)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.work_dir, config.log_level = str(tmp_path / 'work'), 'ERROR'
    config.experiment_name = f'{path.stem}-{time.time_ns()}'
    runner = build_runner(config)
    data = next(iter(runner.build_dataloader(config.train_dataloader)))
    optim_wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
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
    name = re.search(r'edgenext-((x*small|base)(_bnhs)?)', path.stem)[1]
    arch = config.model.backbone.arch
    assert (arch if isinstance(arch, str) else arch['base']) == name
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
        if path.stem != 'edgenext-small_8xb128-usi_in1k':  # a recipe of its own
            assert len(path.read_text().splitlines()) < 25
    for path in (ROOT / 'configs/classification/ablations').iterdir():
        assert len(path.read_text().splitlines()) < 10
