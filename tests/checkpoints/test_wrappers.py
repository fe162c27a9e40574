"""Weights saved from within the wrappers of training codes, made with the real wrappers."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from paths import DIGITS_CONFIG
from torch import distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from edgenext_mm import EdgeNeXt
from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.models.building import build_model


@pytest.fixture
def process_group():
    store = distributed.HashStore()
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Holder(nn.Module):
    """A training code's module, such as Lightning's, with models under the given names."""

    def __init__(self, **models):
        super().__init__()
        self.criterion = nn.Linear(2, 2)
        for name, model in models.items():
            self.add_module(name, model)


def compiled_backbone(model):
    model.backbone = torch.compile(model.backbone)
    return model


def distributed_backbone(model):
    model.backbone = DistributedDataParallel(model.backbone)
    return model


def changed(model):
    """A model with other weights, which are not to be loaded."""
    other = build_model(load_config(DIGITS_CONFIG))
    other.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
    return other


def hooked(model):
    """A checkpoint of mmengine's EMAHook, whose average is the model."""
    runner = SimpleNamespace(model=changed(model))
    hook = EMAHook()
    hook.before_run(runner)
    hook.ema_model.module.load_state_dict(model.state_dict())
    checkpoint = dict(state_dict=runner.model.state_dict(), meta={})
    hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint


WRAPPED = {
    'torch.compile': lambda m: torch.compile(m).state_dict(),
    'compiled backbone': lambda m: compiled_backbone(m).state_dict(),
    'DataParallel': lambda m: DataParallel(m).state_dict(),
    'DistributedDataParallel': lambda m: DistributedDataParallel(m).state_dict(),
    'MMDistributedDataParallel': lambda m: MMDistributedDataParallel(m).state_dict(),
    'distributed backbone': lambda m: distributed_backbone(m).state_dict(),
    'compiled and distributed': lambda m: DistributedDataParallel(torch.compile(m)).state_dict(),
    'distributed and compiled': lambda m: torch.compile(DistributedDataParallel(m)).state_dict(),
    'AveragedModel': lambda m: AveragedModel(m).state_dict(),
    'entry of an average': lambda m: dict(
        model=changed(m).state_dict(), model_ema=AveragedModel(m).state_dict()
    ),
    "mmengine's average": lambda m: ExponentialMovingAverage(m).state_dict(),
    "mmengine's hook": hooked,
    'Lightning, model': lambda m: {
        'state_dict': Holder(model=m).state_dict(),
        'pytorch-lightning_version': '2.5.0',
        'hyper_parameters': dict(lr=1e-3),
        'optimizer_states': [],
    },
    'Lightning, net': lambda m: dict(state_dict=Holder(net=torch.compile(m)).state_dict()),
    'Lightning with an average': lambda m: dict(
        state_dict=Holder(model=changed(m), ema_model=AveragedModel(m)).state_dict()
    ),
    'student with another teacher': lambda m: Holder(
        student=m, teacher=nn.Sequential(EdgeNeXt('xsmall'))
    ).state_dict(),
    'several': lambda m: DistributedDataParallel(Holder(model=torch.compile(m))).state_dict(),
}


@pytest.mark.parametrize('wrapper', WRAPPED)
@pytest.mark.usefixtures('process_group')
def test_weights_are_loaded_from_within_a_wrapper(wrapper, tmp_path):
    torch.manual_seed(0)
    model = build_model(load_config(DIGITS_CONFIG))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / 'wrapped.pth'
    torch.save(WRAPPED[wrapper](model), path)
    loaded = load_model(DIGITS_CONFIG, path, device='cpu')
    torch.testing.assert_close(dict(loaded.state_dict()), expected, rtol=0, atol=0)
    backbone = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, expected[f'backbone.{name}'], rtol=0, atol=0)
