"""Models by name. A folder takes the place of the servers with the authors' files."""

import fnmatch

import numpy as np
import pytest
import torch
from paths import DIGITS_CONFIG

from edgenext_mm import EdgeNeXt, get_model, inference_model, list_models, load_model
from edgenext_mm.checkpoints.finding import find_checkpoint
from edgenext_mm.checkpoints.zoo import TASKS, entries, find_config, find_weights
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError

NAME = 'edgenext-xxsmall_3rdparty_in1k'


def test_models_are_listed_by_task_and_pattern():
    everything = list_models()
    assert sorted(name for task in TASKS for name in list_models(task)) == everything
    assert 'ssdlite_edgenext-small_4xb32-200e_coco' in list_models('detection')
    assert list_models(pattern='*small_bnhs_*') == fnmatch.filter(everything, '*small_bnhs_*') != []
    with pytest.raises(UserError, match=r"Unknown task 'sleep'.*classification, detection"):
        list_models('sleep')


def test_the_ten_files_of_the_authors_releases_are_there():
    names = list_models(pretrained=True)
    files = {entries()[name].sources[0].partition('/download/')[2] for name in names}
    assert files == {
        *(f'v1.0/edgenext_{size}.pth' for size in ('small', 'x_small', 'xx_small')),
        *(f'v1.0/edgenext_{size}_bn_hs.pth' for size in ('small', 'x_small', 'xx_small')),
        'v1.1/edgenext_small_usi.pth',
        'v1.2/edgenext_base.pth',
        'v1.2/edgenext_base_usi.pth',
        'v1.21/edgenext_base_IN21K.pth',
    }
    assert sum(len(entries()[name].sources) == 2 for name in names) == 6


@pytest.mark.parametrize('name', list_models(pretrained=True))
def test_configs_of_published_weights_have_1000_classes(name):
    assert load_config(find_config(name)).model.head.num_classes == 1000


def test_a_model_comes_with_its_weights(mirror):
    model = get_model(NAME, device='cpu')
    assert not model.training
    torch.testing.assert_close(dict(model.state_dict()), dict(mirror))


def test_a_models_settings_can_be_overridden():
    model = get_model(NAME, pretrained=False, backbone=dict(out_indices=(1, 3)))
    assert model.backbone.out_indices == (1, 3)
    assert model.head.num_classes == 1000


def test_inference_by_name(mirror):
    result = inference_model(NAME, np.zeros((40, 30, 3), np.uint8), device='cpu')
    assert isinstance(result['pred_class'], str)
    assert 0 < result['pred_score'] <= 1


def test_the_name_serves_as_a_backbones_checkpoint(mirror):
    model = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint=NAME))
    model.init_weights()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, mirror[f'backbone.{name}'])


def test_the_cache_serves_without_the_mirror(mirror, monkeypatch):
    path = find_weights(NAME)
    monkeypatch.delenv('EDGENEXT_MM_MIRROR')
    assert find_weights(NAME) == find_checkpoint(NAME) == path


def test_infer_takes_a_name_as_checkpoint(mirror, few_digits, call_tool):
    image = next((few_digits / 'val' / '3').iterdir())
    config = entries()[NAME].config
    done = call_tool('infer.py', config, image, '--checkpoint', NAME, '--json', '--device', 'cpu')
    assert 'pred_class' in done.stdout


@pytest.mark.parametrize('load', [get_model, find_checkpoint, find_weights])
def test_models_without_weights_say_how_to_train_them(load):
    name = 'gfl_edgenext-small_fpn_8xb2-1x_coco'
    with pytest.raises(UserError) as error:
        load(name)
    assert 'has no published weights' in str(error.value)
    assert f'python tools/train.py configs/detection/{name}.py' in str(error.value)


def test_similar_names_are_given_for_an_unknown_one():
    with pytest.raises(
        UserError, match=r'no model .*Similar names: edgenext-xxsmall_3rdparty_in1k'
    ):
        get_model('edgenext-xxsmal_3rdparty_in1k')
    with pytest.raises(UserError, match='There is no checkpoint edgenext_huge'):
        find_checkpoint('edgenext_huge')
    with pytest.raises(UserError, match='nor the name of a config'):
        load_model('edgenext_huge')


def test_sources_that_failed_are_listed(tmp_path, few_digits, call_tool):
    roots = [f'{s}_dataloader.dataset.data_root={few_digits}' for s in ('train', 'val', 'test')]
    done = call_tool(
        'train.py', DIGITS_CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *roots,
        f'load_from={NAME}', status=1,
    )  # fmt: skip
    assert 'github.com/mmaaz60/EdgeNeXt/releases/download/v1.0/edgenext_xx_small.pth' in done.stderr
    assert 'mmassets.onedl.ai' in done.stderr
    assert 'EDGENEXT_MM_MIRROR' in done.stderr
