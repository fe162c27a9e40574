"""Reading checkpoint files: what is refused, and that nothing in them is run."""

import argparse
import collections
import dataclasses
import datetime
import enum
import os
import pathlib
import subprocess
import tempfile
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from logs import logged
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from paths import DIGITS_CONFIG

from edgenext_mm import EdgeNeXt, get_model, inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.checkpoints.finding import read_checkpoint
from edgenext_mm.checkpoints.key_maps import rename
from edgenext_mm.config import load_config
from edgenext_mm.engine import Runner
from edgenext_mm.errors import UserError
from edgenext_mm.models.loading import check_weights, load_backbone


class Program:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@register_backend('edgenext_mm_store', prefixes='store', force=True)
class Store(LocalBackend):
    """Local files that stand for those of a remote store."""

    def get(self, filepath):
        return super().get(filepath.removeprefix('store://'))


def load_in_runner(checkpoint, method='load_checkpoint'):
    config = load_config(DIGITS_CONFIG)
    with tempfile.TemporaryDirectory() as config.work_dir:
        config.experiment_name = config.work_dir  # mmengine keeps one visualizer per name
        runner = Runner.from_cfg(config)
        getattr(runner, method)(str(checkpoint))
    return runner.model


@pytest.fixture
def malicious(tmp_path, digits_checkpoint):
    """A checkpoint with code, and the folder that this code would create."""
    trace = tmp_path / 'was_here'
    content = dict(torch.load(digits_checkpoint), extra=Program(trace))
    torch.save(content, tmp_path / 'malicious.pth')
    return tmp_path / 'malicious.pth', trace


def test_the_code_would_run_without_the_check(malicious):
    path, trace = malicious
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    'load',
    [
        read_checkpoint,
        lambda path: load_model(DIGITS_CONFIG, path),
        lambda path: inference_model(
            str(DIGITS_CONFIG), np.zeros((8, 8, 3), np.uint8), checkpoint=path
        ),
        lambda path: EdgeNeXt(
            init_cfg=dict(type='Pretrained', checkpoint=str(path))
        ).init_weights(),
        load_in_runner,
        lambda path: load_in_runner(path, 'resume'),
        lambda path: load_in_runner(f'store://{path}'),
    ],
    ids=['read', 'load_model', 'inference', 'init_cfg', 'runner', 'resume', 'store'],
)
def test_code_in_a_file_is_refused(load, malicious):
    path, trace = malicious
    message = r'\.pth was not loaded: it needs posix.mkdir.* set EDGENEXT_MM_UNSAFE_LOAD=1'
    with pytest.raises(UserError, match=message):
        load(path)
    assert not trace.exists()


def test_code_from_a_mirror_is_refused(mirror, malicious, tmp_path):
    path, trace = malicious
    path.rename(tmp_path / 'mirror' / 'edgenext_xx_small_bn_hs.pth')  # whose hash is unknown
    with pytest.raises(UserError, match=r'was not loaded: it needs posix\.mkdir'):
        get_model('edgenext-xxsmall_bnhs_3rdparty_in1k')
    assert not trace.exists()


def test_weights_come_from_a_store(digits_checkpoint):
    model = load_in_runner(f'store://{digits_checkpoint}')
    stored = torch.load(digits_checkpoint)['state_dict']
    torch.testing.assert_close(dict(model.state_dict()), dict(stored))


def test_weights_come_from_a_url(tmp_path, digits_checkpoint, monkeypatch):
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path))
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(digits_checkpoint.parent))
    url = f'https://example.invalid/{digits_checkpoint.name}'
    stored = torch.load(digits_checkpoint)['state_dict']
    model = load_model(DIGITS_CONFIG, url, device='cpu')
    torch.testing.assert_close(dict(model.state_dict()), dict(stored))
    backbone = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint=url))
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, stored[f'backbone.{name}'])


class Attribute:
    """Unpickling it looks up what could lead to a program."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_only_attributes_of_logged_histories_are_allowed(tmp_path):
    torch.save(dict(extra=Attribute()), tmp_path / 'attribute.pth')
    with pytest.raises(UserError, match=r'it needs getattr\(.*HistoryBuffer'):
        read_checkpoint(tmp_path / 'attribute.pth')


def test_the_environment_variable_allows_all_code(malicious, monkeypatch):
    path, trace = malicious
    monkeypatch.setenv('EDGENEXT_MM_UNSAFE_LOAD', '1')
    assert 'state_dict' in read_checkpoint(path)
    assert trace.exists()


# What real training scripts put beside the weights.


class Mode(enum.Enum):
    FINE_TUNE = 'fine'


@dataclasses.dataclass
class Settings:
    """Importing or making one is not needed to read a file."""

    mode: Mode = Mode.FINE_TUNE
    output_dir: pathlib.Path = pathlib.Path('out')


class AttributeDict(dict):
    pass


PLAIN = [
    argparse.Namespace(output_dir=pathlib.PosixPath('/out/x'), lr=1e-3, drop=None),
    pathlib.PureWindowsPath('c:/out'),
    datetime.datetime(2022, 6, 21, 12, tzinfo=datetime.timezone.utc),
    datetime.timedelta(hours=3),
    collections.OrderedDict(top1=71.2),
    {np.float32(0.5): [np.float64(71.2), np.int64(7), np.bool_(True), np.str_('a')]},
    np.dtype('float16'),
    np.array(['a', None, 3], dtype=object),
    frozenset({1, 2}),
    dict(type=int, shape=torch.Size([3]), dtype=torch.bfloat16, version=torch.__version__),
]


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('value', PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_of_training_scripts_are_read(value, legacy, tmp_path):
    path = tmp_path / 'theirs.pth'
    torch.save(dict(args=value), path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path)['args']
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(found, value)
    else:
        assert found == value


def test_paths_of_other_systems_and_python_versions_are_read(tmp_path):
    """Python 3.13 writes ``pathlib._local``, and Windows a class that cannot be made here."""
    path = tmp_path / 'theirs.pth'
    for module, name, kind in (
        ('pathlib._local', 'PosixPath', pathlib.PurePosixPath),
        ('pathlib', 'WindowsPath', pathlib.PureWindowsPath),
    ):
        pickled = b'\x80\x02}X\x01\x00\x00\x00pc%b\n%b\nX\x01\x00\x00\x00a\x85Rs.' % (
            module.encode(),
            name.encode(),
        )
        torch.save(dict(p=1), path)
        replace_in_archive(path, 'data.pkl', pickled)
        assert isinstance(read_checkpoint(path)['p'], kind)


def replace_in_archive(path, name, content):
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for part, old in parts.items():
            archive.writestr(part, content if part.endswith(f'/{name}') else old)


def test_objects_of_unknown_classes_are_left_out(tmp_path, digits_checkpoint):
    """Their classes are neither imported nor called."""
    content = dict(
        torch.load(digits_checkpoint),
        args=argparse.Namespace(mode=Mode.FINE_TUNE, settings=Settings()),
        hyper_parameters=AttributeDict(lr=1e-3),
        by_class=collections.defaultdict(list, {'7': [1.0]}),
        random=np.random.default_rng(0),
        scheduler=torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)], 1.0), 1),
    )
    torch.save(content, tmp_path / 'theirs.pth')
    found = read_checkpoint(tmp_path / 'theirs.pth')
    assert found['hyper_parameters'] == dict(lr=1e-3)
    assert found['by_class'] == {'7': [1.0]}
    assert not isinstance(found['args'].mode, Mode)
    assert type(found['args'].mode).__name__.endswith('Mode')
    assert found['args'].mode.args == ('fine',)
    assert not isinstance(found['args'].settings, Settings)
    load_model(DIGITS_CONFIG, tmp_path / 'theirs.pth', device='cpu')


class Call:
    """Unpickling it calls a function or a class."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Trace:
    """Making one leaves a folder."""

    def __init__(self, path):
        os.mkdir(path)


def leave_trace(path):
    os.mkdir(path)


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        (leave_trace, r'test_loading\.leave_trace'),
        (eval, 'eval'),
        (subprocess.Popen, r'\w+\.Popen'),
        (torch.hub.load, r'torch\.hub\.load'),
        (partial, r'functools\.partial'),
        (open, r'io\.open'),
    ],
)
def test_functions_and_classes_of_python_are_refused(function, message, tmp_path):
    torch.save(dict(extra=Call(function, str(tmp_path / 'trace'))), tmp_path / 'theirs.pth')
    with pytest.raises(UserError, match=rf'was not loaded: it needs (builtins\.)?{message}'):
        read_checkpoint(tmp_path / 'theirs.pth')
    assert not (tmp_path / 'trace').exists()


def test_a_class_of_a_script_is_not_called(tmp_path):
    torch.save(dict(extra=Call(Trace, str(tmp_path / 'trace'))), tmp_path / 'theirs.pth')
    assert not isinstance(read_checkpoint(tmp_path / 'theirs.pth')['extra'], Trace)
    assert not (tmp_path / 'trace').exists()


# Files that are no checkpoints.


def test_a_truncated_checkpoint_is_refused(tmp_path, digits_checkpoint):
    path = tmp_path / 'cut.pth'
    path.write_bytes(digits_checkpoint.read_bytes()[:5000])
    with pytest.raises(UserError, match=r'cut\.pth cannot be read as a PyTorch checkpoint'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'cut short'),
        (b'<!DOCTYPE html><html>404</html>', 'a web page with an error or a login'),
        (b'not a pickle', 'cannot be read as a PyTorch checkpoint'),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'file.pth'
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)


def test_truncated_safetensors_are_refused(tmp_path):
    path = tmp_path / 'cut.safetensors'
    path.write_bytes(b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":')
    with pytest.raises(UserError, match='cannot be read as safetensors'):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_refused():
    with pytest.raises(UserError, match=r'There is no checkpoint none\.pth'):
        read_checkpoint('none.pth')


def test_a_file_without_a_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='holds a list, not a checkpoint'):
        read_checkpoint(tmp_path / 'list.pth')


def test_weights_of_another_model_are_refused():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r'Missing: weight, bias\. Unexpected: x'):
        check_weights(model, {'x': torch.zeros(1)}, 'a.pth')


# Weights of all formats, for the backbone.


@pytest.mark.parametrize(
    ('target', 'wrapper', 'prefix'),
    [
        ('ours', None, ''),
        ('official', None, 'student.'),
        ('official', 'model_ema', ''),
        ('timm', 'state_dict_ema', 'module._orig_mod.model.'),
        ('timm', 'model', 'module.'),
        ('mmpretrain', 'model', 'net.'),
    ],
)
def test_a_backbone_loads_any_format(target, wrapper, prefix, tmp_path, digits_checkpoint):
    stored = torch.load(digits_checkpoint)['state_dict']
    weights = {f'{prefix}{k}': v for k, v in rename(stored, 'ours', target).items()}
    weights |= {'criterion.weight': torch.ones(1)} if prefix == 'net.' else {}
    path = tmp_path / 'theirs.pth'
    raw = {k: torch.zeros_like(v) for k, v in weights.items()}
    torch.save({'state_dict': raw, wrapper: weights} if wrapper else weights, path)
    model = EdgeNeXt(out_indices=(1, 3), init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, stored[f'backbone.{name}'])


@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize(('value', 'taken'), [(1, 'teacher'), (2, 'student')])
def test_a_teacher_is_used_if_it_is_an_average(value, taken, nested, tmp_path, digits_checkpoint):
    """DINO's is that of the student; in distillation it is another network."""
    stored = torch.load(digits_checkpoint)['state_dict']
    teacher = {k: torch.ones_like(v) for k, v in stored.items()}
    if taken == 'student':
        teacher['backbone.extra.weight'] = torch.ones(3)
    sets = dict(student={k: torch.full_like(v, 2) for k, v in stored.items()}, teacher=teacher)
    flat = {f'{n}.{k}': v for n, weights in sets.items() for k, v in weights.items()}
    torch.save(sets if nested else dict(state_dict=flat), tmp_path / 'both.pth')
    model = load_model(DIGITS_CONFIG, tmp_path / 'both.pth', device='cpu')
    assert model.head.fc.bias[0] == value


def test_weights_saved_on_a_gpu_are_loaded(tmp_path, monkeypatch, digits_checkpoint):
    content = torch.load(digits_checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
        torch.save(content, tmp_path / 'gpu.pth')
    model = load_model(DIGITS_CONFIG, tmp_path / 'gpu.pth', device='cpu')
    for loaded in (model, load_in_runner(tmp_path / 'gpu.pth')):
        torch.testing.assert_close(dict(loaded.state_dict()), dict(content['state_dict']))


def test_a_model_in_half_precision_is_loaded(tmp_path, digits_checkpoint):
    content = torch.load(digits_checkpoint)
    half = {k: v.half() if v.is_floating_point() else v for k, v in content['state_dict'].items()}
    torch.save(dict(content, state_dict=half), tmp_path / 'half.pth')
    model = load_model(DIGITS_CONFIG, tmp_path / 'half.pth', device='cpu')
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'model.head.num_classes': 7},
            r'Of other shape: head.fc.weight \(10x168 in the file, 7x168 here\)',
        ),
        ({'model.backbone.arch': 'small'}, r"holds EdgeNeXt 'xxsmall' .* the model is 'small'"),
    ],
)
def test_a_model_is_loaded_completely_or_not_at_all(options, message, digits_checkpoint):
    with pytest.raises(UserError, match=message):
        load_model(load_config(DIGITS_CONFIG, options), digits_checkpoint)


def test_the_log_lists_weights_that_are_left_out(digits_checkpoint):
    model = EdgeNeXt(out_indices=(2, 3), output_norms=True)
    with logged() as messages:
        load_backbone(model, digits_checkpoint)
    assert messages[-1] == (
        f'{digits_checkpoint}: loaded 156 of 160 tensors.\n'
        'Left out: norm.weight, norm.bias (not in the model).\n'
        'Initialised anew: norm2.weight, norm2.bias, norm3.weight and 1 more.'
    )


def test_a_training_state_of_openmmlab_is_read(tmp_path):
    """Logged histories and optimizer states, as mmengine writes them."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    history = HistoryBuffer([3.0, 1.0], [1, 1])
    content = dict(
        meta=dict(epoch=1, iter=2, seed=7, mmengine_version='0.11'),
        message_hub=dict(log_scalars={'train/loss': history}, runtime_info=dict(epoch=0)),
        optimizer=optimizer.state_dict(),
        state_dict=dict(weight=parameter.data),
    )
    torch.save(content, tmp_path / 'epoch_1.pth')
    found = read_checkpoint(tmp_path / 'epoch_1.pth')
    assert found['message_hub']['log_scalars']['train/loss'].statistics('min') == 1
    assert found['meta'] == content['meta']
    torch.testing.assert_close(found['optimizer'], content['optimizer'])


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_unsupported_pickle_protocols_are_explained(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(a=torch.ones(2)), path, pickle_protocol=4)
    with pytest.raises(UserError, match=r'pickle_protocol=4 or 5.*EDGENEXT_MM_UNSAFE_LOAD=1'):
        read_checkpoint(path)


def test_nan_and_infinite_weights_are_refused():
    model = torch.nn.Linear(2, 2)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    check_weights(model, weights, 'a.pth')
    for value in (torch.nan, torch.inf):
        weights['weight'][0, 1] = value
        with pytest.raises(UserError, match=r'in a\.pth are NaN or infinite: weight\..*earlier'):
            check_weights(model, weights, 'a.pth')
