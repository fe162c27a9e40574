import os

import pytest
import torch
from logs import logged
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.apis.model import load_model
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.engine.work_folder import warn_of_earlier_training
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model


def test_a_shipped_config_is_found_by_name():
    assert find_config('edgenext-xxsmall_digits') == DIGITS_CONFIG
    assert find_config(DIGITS_CONFIG) == DIGITS_CONFIG


def test_an_unknown_config_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'edgenext-tiny' is neither.*edgenext-xxsmall_digits"):
        find_config('edgenext-tiny')


def test_the_model_is_in_evaluation_mode_with_its_weights(digits_checkpoint):
    model = load_model(DIGITS_CONFIG, digits_checkpoint, device='cpu')
    assert not model.training
    assert model.dataset_meta['classes'] == tuple('0123456789')
    stored = torch.load(digits_checkpoint)['state_dict']
    torch.testing.assert_close(dict(model.state_dict()), dict(stored))


def test_classes_of_imagenet_come_from_the_data_set(tmp_path):
    config = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_8xb256_in1k.py'
    path = tmp_path / 'bare.pth'
    torch.save(build_model(load_config(config)).state_dict(), path)
    classes = load_model(config, path, device='cpu').dataset_meta['classes']
    assert len(classes) == 1000
    assert 'goldfish' in classes[1]


def test_the_latest_checkpoint_of_the_work_folder_is_the_default(
    tmp_path, monkeypatch, digits_checkpoint
):
    monkeypatch.chdir(tmp_path)
    work = tmp_path / 'work_dirs' / 'edgenext-xxsmall_digits'
    work.mkdir(parents=True)
    (work / 'last_checkpoint').write_text(str(digits_checkpoint))
    model = load_model(DIGITS_CONFIG, device='cpu')
    assert model.dataset_meta['classes'] == tuple('0123456789')


def test_missing_weights_are_an_error_that_says_how_to_give_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'No weights for edgenext-xxsmall_digits: .*--checkpoint'):
        load_model(DIGITS_CONFIG)


def test_weights_of_another_arch_are_refused(digits_checkpoint):
    config = ROOT / 'configs' / 'classification' / 'edgenext-small_8xb256_in1k.py'
    with pytest.raises(UserError, match=r"holds EdgeNeXt 'xxsmall'.*model is 'small'"):
        load_model(config, digits_checkpoint)


def test_weights_with_another_head_are_refused(digits_checkpoint):
    config = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_8xb256_in1k.py'
    with pytest.raises(UserError, match=r'head\.fc\.weight \(10x168 in the file, 1000x168 here'):
        load_model(config, digits_checkpoint)


# Which weights are used by default.


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A config, and a function that writes a checkpoint to its work folder.

    All weights of a checkpoint have one value.
    """
    monkeypatch.chdir(tmp_path)
    config = tmp_path / 'birds.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\nload_from = 'edgenext-xxsmall_3rdparty_in1k'\n")
    work = tmp_path / 'work_dirs' / 'birds'
    work.mkdir(parents=True)
    own = build_model(load_config(config)).state_dict()

    def leave(name, value, iteration=0):
        weights = {k: torch.full_like(v, value) for k, v in own.items()}
        meta = dict(epoch=iteration // 10, iter=iteration)
        torch.save(dict(meta=meta, state_dict=weights, message_hub={}), work / name)
        return work / name

    return config, leave


def value_of(model):
    return model.head.fc.bias[0].item()


def test_trained_weights_are_preferred_to_those_that_training_starts_from(trained, mirror):
    config, leave = trained
    with pytest.raises(UserError, match=r'work_dirs/birds holds no checkpoint.*`load_from`.*train'):
        load_model(config, device='cpu')
    leave('epoch_2.pth', 2, 20)
    leave('epoch_10.pth', 10, 100)
    assert value_of(load_model(config, device='cpu')) == 10
    assert value_of(load_model(load_config(config), device='cpu')) == 10
    best = leave('best_accuracy_top1_epoch_3.pth', 3, 30)
    assert value_of(load_model(config, device='cpu')) == 3
    newer = leave('best_loss_epoch_2.pth', 2, 20)
    for path, seconds in ((best, 2), (newer, 1)):
        os.utime(path, (seconds, seconds))
    assert value_of(load_model(config, device='cpu')) == 3
    best.write_bytes(best.read_bytes()[:-100])
    assert value_of(load_model(config, device='cpu')) == 2
    assert value_of(load_model(config, leave('mine.pth', 7), device='cpu')) == 7


def test_a_name_of_the_zoo_means_its_published_weights(trained, mirror):
    model = load_model('edgenext-xxsmall_3rdparty_in1k', device='cpu')
    torch.testing.assert_close(dict(model.state_dict()), dict(mirror))


def test_the_weights_in_use_are_logged(trained):
    config, leave = trained
    leave('best_accuracy_top1_epoch_3.pth', 3, 30)
    with logged() as lines:
        load_model(config, device='cpu')
    name = 'best_accuracy_top1_epoch_3.pth'
    assert f'{name} (epoch 3, iter 30, best accuracy_top1)' in lines[0]


def test_a_new_training_beside_an_earlier_one_is_a_warning(trained):
    path, leave = trained
    config = load_config(path)
    with logged() as lines:
        warn_of_earlier_training(config)
    assert not lines
    leave('best_accuracy_top1_epoch_3.pth', 3, 30)
    with logged() as lines:
        warn_of_earlier_training(config)
    (line,) = lines
    assert 'best_accuracy_top1_epoch_3.pth of an earlier training' in line
    config.resume = True
    with logged() as lines:
        warn_of_earlier_training(config)
    assert not lines


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ("model = dict(backbone=dict(arch='small'))", "arch='small'"),
        ("train_dataloader = dict(dataset=dict(data_root='other'))", "data_root='other'"),
        ('', None),
        ('train_dataloader = dict(batch_size=3)', None),
    ],
)
def test_the_training_of_another_config_of_the_same_name_is_a_warning(
    trained, tmp_path, change, expected
):
    config, leave = trained
    leave('epoch_1.pth', 1, 10)
    other = tmp_path / 'other.py'
    other.write_text(f"_base_ = '{DIGITS_CONFIG}'\n{change}\n")
    load_config(other).dump(tmp_path / 'work_dirs' / 'birds' / 'birds.py')
    with logged() as lines:
        load_model(config, device='cpu')
    warnings = [line for line in lines if 'holds a training by another config' in line]
    assert len(warnings) == (expected is not None)
    assert expected is None or expected in warnings[0]
