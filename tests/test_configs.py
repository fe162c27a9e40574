"""Shipped configs load, train, predict, and are what their names say.

tests/benchmarks/test_metafiles.py builds each of them and runs it at full size.
"""

import copy
import functools
import json
import re
import time
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.registry import MODELS
from paths import CONFIGS, ROOT

from benchmarks.generated_data import shrink, with_generated_data
from edgenext_mm import inference_model
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.models.building import build_model

IN1K = [path for path in CONFIGS if '_in1k' in path.stem]
#: Settings that may differ within a recipe, besides numbers: those of the variant, and of testing.
IGNORED = ('arch', 'drop_path_rate', 'in_channels', 'init_cfg', 'load_from') + (
    'test_dataloader',
    'test_evaluator',
    'test_pipeline',
)

load = functools.cache(load_config)


def arch_of(path):
    return re.search(r'edgenext-((x*small|base)(_bnhs|_rw)?)', path.stem)[1]


def recipe(value):
    """A config without its numbers and the settings that depend on the variant of EdgeNeXt."""
    if isinstance(value, dict):
        return {key: recipe(v) for key, v in value.items() if key not in IGNORED}
    if isinstance(value, (list, tuple)):
        return [recipe(v) for v in value]
    return 0 if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def recipes():
    """The first config of each recipe, the ablations last."""
    first = {}
    for path in sorted(CONFIGS, key=lambda path: path.parent.name == 'ablations'):
        first.setdefault(json.dumps(recipe(load(path).to_dict()), sort_keys=True), path)
    return list(first.values())


def make_small(config):
    """Fewer encoders of all kinds, small images and batches, few boxes, at most 1,000 classes."""
    model, arch = config.model, config.model.backbone.arch
    model.backbone.arch = dict(base=arch, depths=(1, 2, 2, 2))
    if model.get('head', {}).get('num_classes', 0) > 1000:
        model.head.num_classes = config.data_preprocessor.num_classes = 20
    if 'max_per_img' in model.get('test_cfg', {}):
        model.test_cfg.update(nms_pre=100, max_per_img=10)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    return shrink(config, most=64)


def make_teacher_small(model, path):
    """Gives the teacher random weights, and timm's teacher another architecture."""
    if isinstance(model.teacher, str):
        teacher = build_model(load(model.teacher))
    else:
        assert timm.is_model(model.teacher.model_name)
        model.teacher.update(model_name='resnet10t', pretrained=False)
        teacher = MODELS.build(model.teacher)
    torch.save(teacher.state_dict(), path)
    model.teacher_checkpoint = str(path)


@pytest.mark.parametrize('path', recipes(), ids=lambda path: path.stem)
def test_one_training_step_and_one_inference(path, scenes_root, few_digits, tmp_path, monkeypatch):
    """On generated data in the format of the config."""
    # mmrotate would start four processes for the metric, which takes longer than all the rest.
    monkeypatch.setattr(
        'mmrotate.evaluation.functional.mean_ap.get_context',
        lambda method: SimpleNamespace(Pool=ThreadPool),
    )
    config = make_small(copy.deepcopy(load(path)))
    config = with_generated_data(config, scenes_root, few_digits, tmp_path / 'data')
    check_data(config, 'train', 'val')
    if 'teacher' in config.model:
        make_teacher_small(config.model, tmp_path / 'teacher.pth')
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


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_the_name_gives_arch_batch_and_schedule(path):
    config = load(path)
    backbone, name = config.model.backbone, path.stem
    assert (backbone.arch if isinstance(backbone.arch, str) else backbone.arch.base) == arch_of(
        path
    )
    assert ('head' in config.model) == (backbone.get('final_norm') == 'auto')
    assert config.param_scheduler[-1].end == config.train_cfg.max_epochs
    if found := re.search(r'_(\d+)xb(\d+)', name):
        gpus, batch = map(int, found.groups())
        assert config.train_dataloader.batch_size == batch
        assert config.auto_scale_lr.base_batch_size == gpus * batch
    if found := re.search(r'-(\d+)([ex])_', name):
        assert config.train_cfg.max_epochs == int(found[1]) * {'e': 1, 'x': 12}[found[2]]
    if found := re.search(r'-(\d+)x(\d+)$', name):
        assert config.model.data_preprocessor.size == tuple(map(int, found.groups()))


def test_there_are_recipes_of_all_tasks_and_their_siblings_are_short():
    assert {path.relative_to(ROOT / 'configs').parts[0] for path in recipes()} == {
        'classification', 'detection', 'segmentation', 'rotated_detection'
    }  # fmt: skip
    assert len(IN1K) > 20
    for path in IN1K:
        if path.stem != 'edgenext-small_8xb128-usi_in1k':  # a recipe of its own
            assert len(path.read_text().splitlines()) < (10 if 'ablations' in path.parts else 25)
