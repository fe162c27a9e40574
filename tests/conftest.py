import functools
import gc
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import hypothesis
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from paths import DIGITS_CONFIG, ROOT

from edgenext_mm.apis.model import get_model, load_model
from edgenext_mm.checkpoints.download import cache_folder
from edgenext_mm.checkpoints.key_maps import rename
from edgenext_mm.checkpoints.zoo import entries
from edgenext_mm.config import load_config
from edgenext_mm.datasets import SceneSettings, write_digit_scenes, write_digits
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import FORMATS, export
from edgenext_mm.deployment.calibration import default_images, normalised_images
from edgenext_mm.deployment.converters.environments import CONVERTERS, FOLDER
from edgenext_mm.models.building import build_model

COMMON = dict(deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.register_profile(
    'short', max_examples=30, derandomize=True, database=None, **COMMON
)
hypothesis.settings.register_profile('long', max_examples=250, print_blob=True, **COMMON)
hypothesis.settings.load_profile('short')


def pytest_addoption(parser):
    parser.addoption('--budget', type=float, help='seconds after which no further test is started')


def pytest_sessionstart(session):
    session.started = time.monotonic()
    # Tests have empty caches, but may use converters that are installed here.
    os.environ.setdefault(FOLDER, str(cache_folder('converters')))


def pytest_runtest_setup(item):
    budget = item.config.getoption('--budget')
    if budget is not None and time.monotonic() - item.session.started > budget:
        pytest.skip('the time budget is used up')


@pytest.fixture(autouse=True)
def _no_default_scope():
    """Removes the default scope and the loggers of a test: their names are those of its second."""
    yield
    DefaultScope._instance_dict.clear()
    MMLogger._instance_dict.clear()


@pytest.fixture(autouse=True)
def _quick_garbage_collection():
    """mmengine collects garbage whenever it loads a data set, which takes long with all libraries
    imported, unless the objects that existed before the test are left out."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope='session')
def digits_root(tmp_path_factory):
    """All 1,797 digits as an image folder."""
    root = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(root)
    return root


@pytest.fixture(scope='session')
def few_digits(digits_root, tmp_path_factory):
    """Four digits of each class for training, two for validation."""
    root = tmp_path_factory.mktemp('data') / 'few'
    for split, count in (('train', 4), ('val', 2)):
        for folder in sorted((digits_root / split).iterdir()):
            target = root / split / folder.name
            target.mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copy(image, target)
    return root


@pytest.fixture(scope='session')
def scenes_root(tmp_path_factory):
    """Digit scenes, eight for training and four for validation."""
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_digit_scenes(root, SceneSettings(num_train=8, num_val=4))
    return root


@pytest.fixture(scope='session')
def digits_checkpoint(tmp_path_factory):
    """Random weights for the digits config, with the classes that training would store."""
    torch.manual_seed(0)
    model = build_model(load_config(DIGITS_CONFIG))
    path = tmp_path_factory.mktemp('weights') / 'digits.pth'
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='session')
def classifier(digits_checkpoint):
    """The digit classifier with random weights."""
    return load_model(DIGITS_CONFIG, digits_checkpoint, 'cpu')


@pytest.fixture(scope='session')
def images_for():
    """Two photographs, preprocessed for a model."""

    def images(model, **kwargs):
        return list(normalised_images(model, default_images(), input_shape(model.cfg), **kwargs))

    return images


@pytest.fixture(scope='session')
def exported(classifier, images_for, tmp_path_factory):
    """Exports the classifier to a format once; gives the file and its deviations."""

    @functools.cache
    def export_to(name):
        if name in CONVERTERS and not CONVERTERS[name].is_installed:
            pytest.skip(f'the converter {name} is not installed')
        path = tmp_path_factory.mktemp('exported') / f'model{FORMATS[name].suffix}'
        return path, export(classifier, path, name, (64, 64), images=images_for(classifier))

    return export_to


@pytest.fixture(scope='session')
def run_tool():
    """Runs a tool in a process of its own, as users do, and returns the finished process."""

    def run(tool, *args, cwd=ROOT, status=0):
        return _run_python([ROOT / 'tools' / tool, *args], cwd, status)

    return run


@pytest.fixture
def call_program(monkeypatch, capfd):
    """Runs a program in this process, which is faster; returns what it printed."""

    def call(start, name, *args, status=0):
        monkeypatch.setattr(sys, 'argv', [str(name), *map(str, args)])
        code = None
        capfd.readouterr()  # what the test printed before
        try:
            start(str(name), run_name='__main__')
        except SystemExit as error:
            code = error.code
        out, err = capfd.readouterr()
        if isinstance(code, str):
            code, err = 1, err + code
        assert (code or 0) == status, out[-2000:] + err[-4000:]
        return SimpleNamespace(stdout=out, stderr=err)

    return call


@pytest.fixture
def call_tool(call_program):
    """Runs a tool in this process; for tools that start no other processes."""
    return lambda tool, *args, status=0: call_program(
        runpy.run_path, ROOT / 'tools' / tool, *args, status=status
    )


@pytest.fixture(scope='session')
def run_benchmark():
    """Runs a benchmark in a process of its own, and returns the finished process."""

    def run(name, *args, status=0):
        return _run_python(['-m', f'benchmarks.{name}', *args], ROOT, status)

    return run


def _run_python(arguments, cwd, status):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(autouse=True)
def _no_downloads(tmp_path_factory, monkeypatch):
    """Starts with an empty cache, and a proxy that refuses all connections."""
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    monkeypatch.delenv('EDGENEXT_MM_MIRROR', raising=False)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder in place of the authors' releases: xxsmall in their format, with random weights.

    The zoo has the hash of this file instead of that of the authors' file.

    Returns:
        The weights with our names.
    """
    torch.manual_seed(0)
    name = 'edgenext-xxsmall_3rdparty_in1k'
    weights = get_model(name, pretrained=False).state_dict()
    (tmp_path / 'mirror').mkdir()
    path = tmp_path / 'mirror' / 'edgenext_xx_small.pth'
    torch.save(dict(model=rename(weights, 'ours', 'official')), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first, *others = entries()[name].sources
    sources = (replace(first, sha256=digest), *others)
    monkeypatch.setitem(entries(), name, replace(entries()[name], sources=sources))
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(path.parent))
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    return weights


@pytest.fixture(scope='session')
def timm_edgenext():
    """timm's EdgeNeXt, imported only if a test needs it, since the import takes seconds."""
    from timm.models import edgenext

    return edgenext


@pytest.fixture
def digits_training(few_digits, tmp_path, request):
    """Gives configs for training on a few digits without worker processes."""

    def config(batch_size, max_epochs):
        config = load_config(DIGITS_CONFIG)
        for name in ('train', 'val'):
            loader = config[f'{name}_dataloader']
            loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
            loader.dataset.data_root = str(few_digits)
        config.train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
        config.work_dir, config.experiment_name = str(tmp_path), request.node.name
        return config

    return config
