"""Initial weights in configs: wherever and however they are written."""

import pickle

import pytest
import torch
from mmengine.model.weight_init import PretrainedInit

from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.finding import check_pretrained
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError

ARCH = dict(depths=(1, 1, 1, 1), dims=(24, 48, 88, 168))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights of a backbone without a prefix, as other libraries store them."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('weights') / 'plain.pth'
    model = EdgeNeXt(ARCH)
    model.init_weights()
    torch.save({f'backbone.{k}': v for k, v in model.state_dict().items()}, path)
    return path


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.Pretrained', PretrainedInit], ids=str)
@pytest.mark.parametrize('as_list', [False, True])
def test_every_spelling_loads_the_weights(weights, kind, as_list):
    setting = dict(type=kind, checkpoint=str(weights))
    fill = dict(type='Constant', layer='Conv2d', val=7.0)
    model = EdgeNeXt(ARCH, init_cfg=[fill, setting] if as_list else setting)
    model.init_weights()
    for name, value in torch.load(weights).items():
        assert torch.equal(model.state_dict()[name.removeprefix('backbone.')], value)


@pytest.mark.parametrize('name', ['backbone', 'head'])
def test_unsafe_files_run_no_code(name, digits_training, tmp_path):
    evil, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    evil.write_bytes(pickle.dumps(dict(state_dict=Evil(trace))))
    config = digits_training(2, 1)
    config.model[name].init_cfg = dict(type='Pretrained', checkpoint=str(evil))
    with pytest.raises(UserError, match=rf'model.{name} starts from|cannot be read'):
        build_runner(config).train()
    assert not trace.exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(pretrained='w.pth'), r"`load_from = 'w.pth'`"),
        (dict(init_cfg=dict(type='Pretrained', checkpoint='w.pth')), r"`load_from = 'w.pth'`"),
        (dict(init_cfg=[dict(type='Pretrained', checkpoint='w.pth')]), r"`load_from = 'w.pth'`"),
        (dict(backbone=dict(type='EdgeNeXt', init_cfg=dict(type='Pretrained'))), 'no `checkpoint`'),
        (
            dict(neck=dict(type='FPN', init_cfg=[dict(type='Pretrained', checkpoint='w.pth')])),
            'model.neck starts from the weights w.pth, which are missing',
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        check_pretrained(dict(type='FasterRCNN', **settings))


def test_other_backbones_keep_their_own_weights():
    setting = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    check_pretrained(dict(type='FCOS', backbone=dict(type='ResNet', init_cfg=setting)))


def test_nan_weights_are_refused(weights, tmp_path):
    spoiled = torch.load(weights)
    spoiled['backbone.stages.0.0.gamma'][0] = float('nan')
    torch.save(spoiled, tmp_path / 'nan.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'nan.pth'))
    with pytest.raises(UserError, match=r'NaN or infinite: stages.0.0.gamma'):
        EdgeNeXt(ARCH, init_cfg=init_cfg).init_weights()
