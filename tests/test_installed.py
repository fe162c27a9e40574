"""The package as its users install it: from a wheel, outside the repository, under mim.

The wheel is built from the sdist and installed in an environment of its own, which borrows the
libraries of the one that runs the tests.
"""

import http.server
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from paths import ROOT

from edgenext_mm import get_model
from edgenext_mm.checkpoints.key_maps import rename

NAME = 'edgenext-xxsmall_3rdparty_in1k'
LEFT_OUT = (
    '.git',
    '.venv',
    'data',
    'work_dirs',
    'build',
    '*.egg-info',
    '.mim',
    '__pycache__',
    '.*',
)


def run(*command, cwd, status=0):
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sdist')
    source = folder / 'source'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(sys.executable, 'setup.py', '-q', 'sdist', '-d', folder, cwd=source)
    (path,) = folder.glob('edgenext_mm-*.tar.gz')
    return path


@pytest.fixture(scope='module')
def python(sdist, tmp_path_factory):
    """The interpreter of an environment with the wheel."""
    folder = tmp_path_factory.mktemp('installed')
    pip = [sys.executable, '-m', 'pip']
    options = ['--no-deps', '--no-index', '--no-build-isolation', '-q']
    run(*pip, 'wheel', *options, '-w', folder, sdist, cwd=folder)
    (wheel,) = folder.glob('*.whl')
    run(sys.executable, '-m', 'venv', '--without-pip', folder / 'env', cwd=folder)
    python = folder / 'env' / 'bin' / 'python'
    (site,) = (folder / 'env' / 'lib').glob('python*/site-packages')
    (site / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
    run(*pip, '--python', python, 'install', *options[:2], wheel, cwd=folder)
    return python


@pytest.fixture(scope='module')
def package(python, tmp_path_factory):
    """Where the package was installed."""
    command = 'import edgenext_mm; print(edgenext_mm.__path__[0])'
    done = run(python, '-c', command, cwd=tmp_path_factory.mktemp('elsewhere'))
    return Path(done.stdout.splitlines()[-1])


def mim(python, *arguments, cwd):
    command = 'from mim.cli import cli; cli(prog_name="mim")'
    return run(python, '-c', command, *arguments, cwd=cwd)


def options(few_digits, tmp_path):
    roots = [f'{s}_dataloader.dataset.data_root={few_digits}' for s in ('train', 'val', 'test')]
    return ['--gpus', '0', '--work-dir', tmp_path / 'work', '--cfg-options', *roots]


def test_sdist_and_wheel_carry_configs_tools_and_index(sdist, package):
    assert ROOT not in package.parents
    with tarfile.open(sdist) as archive:
        packed = {name.partition('/')[2] for name in archive.getnames()}
    for folder in ('configs', 'tools'):
        paths = [p for p in (ROOT / folder).rglob('*') if p.suffix in ('.py', '.sh', '.yml')]
        names = {str(p.relative_to(ROOT)) for p in paths}
        assert names <= packed
        assert all((package / '.mim' / name).is_file() for name in names)
    assert 'model-index.yml' in packed
    assert (package / '.mim' / 'model-index.yml').is_file()


def test_mim_searches(python, tmp_path):
    mim(python, 'search', 'edgenext_mm', '--json', tmp_path / 'found.json', cwd=tmp_path)
    found = json.loads((tmp_path / 'found.json').read_text())
    assert 'edgenext_xx_small.pth' in json.dumps(found)
    assert NAME in mim(python, 'search', 'edgenext_mm', '--config', NAME, cwd=tmp_path).stdout


def test_mim_downloads_and_what_it_brings_works(python, package, tmp_path, few_digits):
    """A server of our own stands for the authors' host: the index is made to name it."""
    torch.manual_seed(0)
    weights = get_model(NAME, pretrained=False).state_dict()
    files = tmp_path / 'files'
    files.mkdir()
    torch.save(dict(model=rename(weights, 'ours', 'official')), files / 'edgenext_xx_small.pth')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    metafile = package.parent / 'edgenext_mim' / 'configs' / 'classification' / 'metafile.yml'
    original = metafile.read_text()
    theirs = 'https://github.com/mmaaz60/EdgeNeXt/releases/download/v1.0'
    metafile.write_text(original.replace(theirs, f'http://127.0.0.1:{server.server_port}'))
    try:
        mim(python, 'download', 'edgenext_mm', '--config', NAME, '--dest', '.', cwd=tmp_path)
    finally:
        metafile.write_text(original)
        server.shutdown()
        server.server_close()

    image = next((few_digits / 'val' / '3').iterdir())
    infer = package / '.mim' / 'tools' / 'infer.py'
    checkpoint = tmp_path / 'edgenext_xx_small.pth'
    done = run(
        python, infer, f'{NAME}.py', image, '--checkpoint', checkpoint, '--json', cwd=tmp_path
    )
    assert 'pred_class' in done.stdout


def test_mim_trains_tests_and_runs_tools(python, tmp_path, few_digits):
    config = 'edgenext-xxsmall_digits.py'
    arguments = options(few_digits, tmp_path)
    mim(python, 'train', 'edgenext_mm', config, *arguments, 'train_cfg.max_epochs=1', cwd=tmp_path)
    checkpoint = tmp_path / 'work' / 'epoch_1.pth'
    done = mim(
        python, 'test', 'edgenext_mm', config, '--checkpoint', checkpoint, *arguments, cwd=tmp_path
    )
    assert 'accuracy/top1' in done.stdout + done.stderr
    done = mim(python, 'run', 'edgenext_mm', 'get_flops', tmp_path / 'work' / config, cwd=tmp_path)
    assert '1,159,906' in done.stdout


def test_a_project_inherits_the_installed_configs(python, tmp_path, few_digits):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'edgenext_mm::classification/edgenext-xxsmall_digits.py'\n"
        'train_cfg = dict(max_epochs=1)\n'
    )
    mim(python, 'train', 'edgenext_mm', 'mine.py', *options(few_digits, tmp_path), cwd=tmp_path)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()
