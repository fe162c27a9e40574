"""tools/setup_env.py, loaded from its file since it is no module of the package."""

import importlib.util
import re
import subprocess
import sys
from functools import partial

import pytest
from paths import ROOT


@pytest.fixture
def setup_env(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'CACHE', tmp_path / 'cache')
    return module


class CalledError(Exception):
    """Raised in place of a command."""


@pytest.fixture
def no_commands(setup_env, monkeypatch):
    def refuse(command):
        raise CalledError(command)

    monkeypatch.setattr(setup_env, 'run', refuse)


@pytest.mark.usefixtures('no_commands')
def test_an_up_to_date_environment_is_left_alone_until_requirements_change(
    setup_env, tmp_path, monkeypatch
):
    stamp = tmp_path / 'setup.sha256'
    stamp.write_text(setup_env.fingerprint())
    setup_env.set_up(tmp_path, '')
    (tmp_path / 'torch.txt').write_text('torch')
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', tmp_path)
    with pytest.raises(CalledError):
        setup_env.set_up(tmp_path, '')
    assert not stamp.exists()  # a failed set-up is not taken for a complete one


def test_lowest_versions_are_those_of_setup_py(setup_env):
    lines = setup_env.lowest_constraints().splitlines()
    bounds = dict(re.findall(r"'([\w-]+)>=([\w.]+)[,']", (ROOT / 'setup.py').read_text()))
    assert len(bounds) > 10
    for name, version in bounds.items():
        assert f'{name}=={version}' in lines or f'{name.lower()}=={version}' in lines
    assert len(lines) == len((ROOT / 'requirements/constraints.txt').read_text().splitlines())


@pytest.mark.parametrize(
    ('missing', 'message'),
    [
        ('compiler', r"needs a C\+\+ compiler, but 'no-such-compiler'.*g\+\+"),
        ('headers', r"needs Python's headers.*python3\.\d+-dev"),
        ('venv', r'has no venv module.*apt-get install python3\.\d+-venv'),
        ('python', r'Python 9\.0 or newer is needed, but this is 3'),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    missing, message, setup_env, monkeypatch, tmp_path
):
    monkeypatch.setenv('CXX', 'no-such-compiler' if missing == 'compiler' else sys.executable)
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    if missing == 'venv':
        monkeypatch.setitem(sys.modules, 'ensurepip', None)
    if missing == 'python':
        monkeypatch.setattr(setup_env, 'MIN_PYTHON', (9, 0))
    check = {
        'compiler': partial(setup_env.build_wheel, sys.executable, '1.0', tmp_path, on_gpu=False),
        'python': setup_env.check_python,
    }
    with pytest.raises(SystemExit, match=message):
        check['compiler' if missing in ('compiler', 'headers') else 'python']()


@pytest.fixture
def pins(tmp_path):
    path = tmp_path / 'constraints.txt'
    path.write_text('onedl-mmcv==2.3.6\n')
    return path


@pytest.mark.usefixtures('no_commands')
def test_only_a_wheel_for_this_torch_python_and_version_is_installed(setup_env, pins, monkeypatch):
    monkeypatch.setattr(setup_env, 'PROBE_TORCH', 'print("cp311 2.6.0 False False")')
    monkeypatch.setattr(setup_env, 'PROBE_MMCV', 'exit(1)')
    monkeypatch.setattr(setup_env, 'build_wheel', lambda *args: 'built')
    wheels = setup_env.CACHE / 'wheels'
    for name in (
        'torch-2.7.0-cpu/onedl_mmcv-2.3.6-cp311-',
        'torch-2.6.0-cuda/onedl_mmcv-2.3.6-cp311-',
        'torch-2.6.0-cpu/onedl_mmcv-2.3.5-cp311-',
        'torch-2.6.0-cpu/onedl_mmcv-2.3.6-cp310-',
    ):
        (wheels / name).parent.mkdir(parents=True, exist_ok=True)
        (wheels / f'{name}linux.whl').touch()
    with pytest.raises(CalledError, match='built'):
        setup_env.install_mmcv(sys.executable, pins)
    wheel = wheels / 'torch-2.6.0-cpu/onedl_mmcv-2.3.6-cp311-linux.whl'
    wheel.touch()
    with pytest.raises(CalledError, match=re.escape(str(wheel))):
        setup_env.install_mmcv(sys.executable, pins)


def test_an_mmcv_built_for_another_torch_is_replaced(setup_env, tmp_path, monkeypatch):
    folder = tmp_path / 'wheels' / 'torch-1-cpu'
    source = '{"url": "file:///home/x/wheels/torch-%s-cpu/onedl_mmcv.whl"}'
    for printed, expected in ((source % 1, True), (source % 2, False), ('', True)):
        monkeypatch.setattr(setup_env, 'PROBE_MMCV', f'print({printed!r})')
        assert setup_env.has_mmcv_for(sys.executable, folder) is expected


def test_a_failing_command_stops_the_set_up(setup_env, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r'failed with status 3: .*exit'):
        setup_env.run([sys.executable, '-c', 'exit(3)'])
    code = 'print("[1/4] a.cpp"); print("[2/4] b.cpp"); print("error: no"); exit(1)'
    with pytest.raises(SystemExit, match=r'See the end of .*build\.log'):
        setup_env.run_with_progress([sys.executable, '-c', code], {}, tmp_path / 'build.log')
    assert '2 of 4 files' in capsys.readouterr().out
    assert 'error: no' in (tmp_path / 'build.log').read_text()


def test_make_setup_does_nothing_twice():
    if (ROOT / '.venv').is_symlink() or not (ROOT / '.venv' / 'setup.sha256').is_file():
        pytest.skip('the environment was not made by `make setup` in this clone')
    done = subprocess.run(['make', 'setup'], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '/5 ' not in done.stdout  # none of the steps
