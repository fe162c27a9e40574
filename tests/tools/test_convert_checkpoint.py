import argparse
import hashlib

import pytest
import torch

from benchmarks.models import EdgeNeXtClassifier
from edgenext_mm.checkpoints.contents import WRAPPERS
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.models import ARCHS
from edgenext_mm.models.building import build_model


def official_weights(arch):
    """A state dict with the authors' names and random values."""
    torch.manual_seed(1)
    weights = EdgeNeXtClassifier(arch).state_dict()
    return {
        name.removeprefix('backbone.'): torch.rand(value.shape).to(value.dtype)
        for name, value in weights.items()
    }


def classifier(arch):
    options = {
        'model.backbone.arch': arch,
        'model.head.in_channels': ARCHS[arch].dims[-1],
    }
    return build_model(load_config(find_config('edgenext-xxsmall_8xb256_in1k'), options))


@pytest.mark.parametrize('arch', ARCHS)
def test_all_variants_load_strictly(arch, tmp_path, call_tool):
    weights = official_weights(arch)
    wrapper = [None, *WRAPPERS][list(ARCHS).index(arch) % 4]
    content = {wrapper: weights, 'args': argparse.Namespace(lr=1)} if wrapper else weights
    torch.save(content, tmp_path / 'src.pth')
    done = call_tool(
        'model_converters/convert_checkpoint.py', tmp_path / 'src.pth', tmp_path / 'dst.pth'
    )
    assert f'{arch}, {len(weights)} tensors' in done.stdout
    (path,) = tmp_path.glob('dst-*.pth')
    assert path.stem == f'dst-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}'
    converted = torch.load(path)['state_dict']
    model = classifier(arch)
    model.load_state_dict(converted, strict=True)
    x = torch.rand(1, 3, 64, 64)
    reference = EdgeNeXtClassifier(arch).eval()
    reference.backbone.load_state_dict(
        {k: v for k, v in weights.items() if not k.startswith('head')}, strict=True
    )
    reference.head.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith('head')})
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference(x), equal_nan=True)


def test_key_selects_an_entry(tmp_path, call_tool):
    first, second = official_weights('xxsmall'), official_weights('xxsmall')
    second['head.bias'] = second['head.bias'] + 1
    torch.save(dict(model=first, model_ema=second), tmp_path / 'src.pth')
    for key, expected in (('model', first), ('model_ema', second), (None, second)):
        call_tool(
            'model_converters/convert_checkpoint.py', tmp_path / 'src.pth',
            tmp_path / str(key) / 'dst.pth', *(['--key', key] if key else []),
        )  # fmt: skip
        (path,) = (tmp_path / str(key)).iterdir()
        bias = torch.load(path)['state_dict']['head.fc.bias']
        torch.testing.assert_close(bias, expected['head.bias'])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'fc.weight': torch.zeros(2)}, 'These are not the weights of an EdgeNeXt of the paper'),
        ({'epoch': 3}, 'The checkpoint holds no state dict'),
    ],
)
def test_other_files_are_refused_and_nothing_is_written(tmp_path, call_tool, content, message):
    (tmp_path / 'dst.pth').write_text('precious')
    torch.save(content, tmp_path / 'src.pth')
    done = call_tool(
        'model_converters/convert_checkpoint.py', tmp_path / 'src.pth', tmp_path / 'dst.pth',
        status=1,
    )  # fmt: skip
    assert message in done.stderr
    assert (tmp_path / 'dst.pth').read_text() == 'precious'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dst.pth', 'src.pth']


def test_incomplete_weights_are_refused(tmp_path, call_tool):
    weights = official_weights('xxsmall')
    del weights['norm.weight']
    torch.save(weights, tmp_path / 'src.pth')
    done = call_tool(
        'model_converters/convert_checkpoint.py', tmp_path / 'src.pth', tmp_path / 'dst.pth',
        status=1,
    )  # fmt: skip
    assert "missing ['backbone.norm.weight']" in done.stderr


@pytest.mark.parametrize('name', ['dst.pth', 'dst.safetensors'])
def test_timm_loads_weights_in_its_format(name, tmp_path, call_tool):
    import timm
    from timm.models import load_checkpoint

    weights = official_weights('xxsmall')
    torch.save(weights, tmp_path / 'src.pth')
    call_tool(
        'model_converters/convert_checkpoint.py', tmp_path / 'src.pth', tmp_path / name,
        '--to', 'timm',
    )  # fmt: skip
    (path,) = tmp_path.glob('dst-*')
    model = timm.create_model('edgenext_xx_small')
    load_checkpoint(model, str(path), strict=True)
    torch.testing.assert_close(model.state_dict()['head.fc.bias'], weights['head.bias'])
    call_tool('model_converters/convert_checkpoint.py', path, tmp_path / 'back.pth')
    (back,) = tmp_path.glob('back-*')
    torch.testing.assert_close(torch.load(back)['state_dict']['head.fc.bias'], weights['head.bias'])
