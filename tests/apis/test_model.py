import pytest
import torch
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.apis.model import find_config, load_model
from edgenext_mm.errors import UserError


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
    from edgenext_mm.apis.cli import load_config
    from edgenext_mm.apis.model import build_model

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


def test_no_weights_is_an_error_with_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'No weights for edgenext-xxsmall_digits: give'):
        load_model(DIGITS_CONFIG)


def test_weights_of_another_arch_are_refused(digits_checkpoint):
    config = ROOT / 'configs' / 'classification' / 'edgenext-small_8xb256_in1k.py'
    with pytest.raises(UserError, match=r"holds EdgeNeXt 'xxsmall'.*model is 'small'"):
        load_model(config, digits_checkpoint)


def test_weights_with_another_head_are_refused(digits_checkpoint):
    config = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_8xb256_in1k.py'
    with pytest.raises(UserError, match=r'head\.fc\.weight \(10x168 there, 1000x168 here'):
        load_model(config, digits_checkpoint)
