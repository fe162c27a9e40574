"""Mistakes in config files."""

import warnings

import pytest
from paths import CONFIGS

from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / 'birds-v1.0.py'
        path.write_text(f"default_scope = 'mmpretrain'\n{text}\n")
        return path

    return write


def test_a_config_may_have_a_version_in_its_name(written):
    path = written('')
    assert load_config(path).filename == str(path)


def test_a_checkpoint_in_place_of_the_config(tmp_path):
    path = tmp_path / 'best.pth'
    path.write_bytes(b'')
    with pytest.raises(UserError, match=r'best.pth is not a config.*\.py, .*Give the config first'):
        load_config(path)


@pytest.mark.parametrize(
    ('key', 'meant'),
    [
        ('train_dataloder', 'train_dataloader'),
        ('optim_wraper', 'optim_wrapper'),
        ('custom_hook', 'custom_hooks'),
        ('param_schedulers', 'param_scheduler'),
        ('auto_scale_rl', 'auto_scale_lr'),
    ],
)
def test_a_misspelt_setting_is_warned_of(written, key, meant):
    with pytest.warns(UserWarning, match=rf'`{key}` has no effect. Did you mean `{meant}`\?'):
        load_config(written(f'{key} = dict()'))
    with pytest.warns(UserWarning, match=f'`{meant}`'):
        load_config(written(''), {f'{key}.x': 1})


def test_settings_and_names_of_ones_own_are_not(written):
    own = ['val_pipeline', 'model_name', 'train_cfg_2', 'data_root', 'max_epochs', 'metainfo', 'a']
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        load_config(written('\n'.join(f'{name} = 1' for name in own)))
        for path in CONFIGS[::8]:
            load_config(path)


@pytest.mark.parametrize('setting', ["model = 'resnet'", 'train_dataloader = [1]', 'val_cfg = 1'])
def test_a_setting_of_another_type_is_refused(written, setting):
    key, _, value = setting.partition(' = ')
    with pytest.raises(UserError, match=f'`{key}` must be a dict, but is') as caught:
        load_config(written(setting))
    assert str(caught.value).endswith(f'{value}.')
