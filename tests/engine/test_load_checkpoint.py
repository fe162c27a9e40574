"""Checkpoints that a training starts from or resumes from."""

import logging

import pytest
import torch
from paths import DIGITS_CONFIG

from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.key_maps import rename
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError


@pytest.fixture
def runner(tmp_path, request):
    config = load_config(DIGITS_CONFIG, {'model.head.num_classes': 7})
    config.work_dir, config.experiment_name = str(tmp_path), request.node.name
    return build_runner(config)


def load(runner, path):
    runner._load_from = str(path)
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.load_checkpoint(str(path))
    return records


def test_a_head_for_other_classes_is_not_loaded(runner, digits_checkpoint):
    head = runner.model.head.fc.weight.detach().clone()
    records = load(runner, digits_checkpoint)
    line = next(r for r in records if 'Initialised anew' in r)
    total = len(runner.model.state_dict())
    assert f'loaded {total - 2} of {total} tensors' in line
    assert 'Left out: head.fc.weight (10x168 in the file, 7x168 here), head.fc.bias (10 in' in line
    assert 'Initialised anew: head.fc.weight, head.fc.bias.' in line
    assert len(line.splitlines()) == 3
    stored = torch.load(digits_checkpoint)['state_dict']
    torch.testing.assert_close(
        runner.model.backbone.state_dict()['norm.weight'], stored['backbone.norm.weight']
    )
    torch.testing.assert_close(runner.model.head.fc.weight, head)


def test_weights_of_another_model_are_refused(runner, tmp_path):
    torch.save(dict(state_dict=dict(x=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'other\.pth holds none of the weights of this model'):
        load(runner, tmp_path / 'other.pth')


@pytest.mark.parametrize('target', ['official', 'timm', 'mmpretrain'])
def test_weights_of_any_format_are_loaded(runner, digits_checkpoint, tmp_path, target):
    stored = torch.load(digits_checkpoint)['state_dict']
    torch.save(dict(model_ema=rename(stored, 'ours', target)), tmp_path / 'theirs.pth')
    load(runner, tmp_path / 'theirs.pth')
    for name, value in runner.model.backbone.state_dict().items():
        torch.testing.assert_close(value, stored[f'backbone.{name}'])


def test_a_training_of_another_model_is_not_resumed(runner, digits_checkpoint):
    runner._resume = True
    with pytest.raises(
        UserError, match=r'Of other shape: head\.fc\.weight \(10x168 in the file, 7x168'
    ):
        load(runner, digits_checkpoint)


@pytest.mark.parametrize('saved', ['AdamW', 'SGD'])
def test_a_training_with_another_optimizer_is_not_resumed(runner, tmp_path, saved):
    config = load_config(DIGITS_CONFIG, {'optim_wrapper.optimizer.type': f'torch.optim.{saved}'})
    content = dict(meta=dict(cfg=config.pretty_text), optimizer={})
    torch.save(dict(content, state_dict=runner.model.state_dict()), tmp_path / 'epoch_1.pth')
    runner._resume = True
    if saved == 'AdamW':  # the one of the runner
        runner.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
        return
    with pytest.raises(UserError, match=r'epoch_1\.pth: its optimizer is SGD, .* is AdamW'):
        runner.load_checkpoint(str(tmp_path / 'epoch_1.pth'))


def test_weights_of_another_arch_are_refused(runner, tmp_path):
    weights = {f'backbone.{k}': v for k, v in EdgeNeXt('small').state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'small.pth')
    with pytest.raises(UserError, match=r"holds EdgeNeXt 'small'.* but the model is 'xxsmall'"):
        load(runner, tmp_path / 'small.pth')
