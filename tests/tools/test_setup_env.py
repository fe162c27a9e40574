"""The set-up script stands alone, so it is loaded from its file."""

import importlib.util
import resource
import subprocess
import sys
import time

import pytest
from paths import ROOT


@pytest.fixture
def setup_env(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'STAMP', tmp_path / 'stamp')
    monkeypatch.setattr(module, 'CACHE', tmp_path / 'cache')
    return module


def forbid(name):
    def refuse(*args, **kwargs):
        raise AssertionError(f'{name} was called')

    return refuse


def test_a_complete_environment_is_left_alone(setup_env, monkeypatch):
    setup_env.STAMP.write_text(setup_env.fingerprint())
    monkeypatch.setattr(setup_env, 'run', forbid('run'))
    start = time.process_time()
    setup_env.set_up()
    assert time.process_time() - start < 1


def test_a_change_of_requirements_is_noticed(setup_env, tmp_path, monkeypatch):
    before = setup_env.fingerprint()
    (tmp_path / 'a.txt').write_text('torch')
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', tmp_path)
    assert setup_env.fingerprint() != before


def test_a_stamp_does_not_outlive_a_failed_set_up(setup_env, monkeypatch):
    setup_env.STAMP.write_text('of an older set-up')
    monkeypatch.setattr(setup_env, 'run', forbid('run'))
    with pytest.raises(AssertionError, match='run was called'):
        setup_env.set_up()
    assert not setup_env.STAMP.exists()


def test_a_missing_compiler_is_named_with_the_way_out(setup_env, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(SystemExit, match=r"needs a C\+\+ compiler.*'no-such-compiler'.*g\+\+"):
        setup_env.check_compiler()


def test_missing_headers_are_named_with_the_way_out(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"needs Python's headers.*-dev"):
        setup_env.check_compiler()


def test_a_missing_venv_module_is_named_with_the_way_out(setup_env, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    with pytest.raises(SystemExit, match=r'without its venv module.*apt-get install python3'):
        setup_env.check_python()


def test_an_old_python_is_refused(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env, 'MIN_PYTHON', (9, 0))
    with pytest.raises(SystemExit, match=r'Python 9\.0 or newer is needed, this is 3'):
        setup_env.check_python()


def test_wheels_are_kept_apart_by_torch_version(setup_env):
    import torch

    folder, on_gpu = setup_env.wheel_folder(sys.executable)
    assert folder.name == f'torch-{torch.__version__}-{"cuda" if on_gpu else "cpu"}'


def test_only_a_wheel_of_this_torch_python_and_version_is_taken(setup_env, tmp_path):
    version = setup_env.pinned('onedl-mmcv')
    tag = 'cp{}{}'.format(*sys.version_info[:2])
    here, elsewhere = tmp_path / 'torch-here', tmp_path / 'torch-elsewhere'
    for folder in (here, elsewhere):
        folder.mkdir()
    (elsewhere / f'onedl_mmcv-{version}-{tag}-{tag}-linux.whl').touch()
    (here / f'onedl_mmcv-0.1-{tag}-{tag}-linux.whl').touch()
    (here / f'onedl_mmcv-{version}-cp27-cp27-linux.whl').touch()
    assert setup_env.find_wheel(sys.executable, here) is None
    wheel = here / f'onedl_mmcv-{version}-{tag}-{tag}-linux.whl'
    wheel.touch()
    assert setup_env.find_wheel(sys.executable, here) == wheel


def test_an_mmcv_built_here_for_another_torch_is_not_good_enough(setup_env, tmp_path, monkeypatch):
    folder = tmp_path / 'wheels' / 'torch-1-cpu'
    source = '{"url": "file:///home/x/wheels/torch-%s-cpu/onedl_mmcv.whl"}'
    for version, expected in (('1', True), ('2', False)):
        monkeypatch.setattr(setup_env, 'PROBE_WHEEL', f'print({source % version!r})')
        assert setup_env.has_mmcv_for(sys.executable, folder) is expected


def test_a_failing_command_stops_the_set_up_with_its_name(setup_env):
    with pytest.raises(SystemExit, match=r'failed with status 3: .*exit'):
        setup_env.run([sys.executable, '-c', 'exit(3)'])


def test_a_failing_build_names_its_log(setup_env, tmp_path, capsys):
    code = 'print("[1/4] a.cpp"); print("[2/4] b.cpp"); print("error: no"); exit(1)'
    with pytest.raises(SystemExit, match=r'its output is in .*build\.log'):
        setup_env.run_with_progress([sys.executable, '-c', code], {}, tmp_path / 'build.log')
    assert '2/4 files' in capsys.readouterr().out
    assert 'error: no' in (tmp_path / 'build.log').read_text()


def test_make_test_starts_at_once_where_all_is_there():
    venv_python = ROOT / '.venv' / 'bin' / 'python'
    if not (ROOT / '.venv' / 'setup.sha256').is_file():
        return  # the tests run in an environment of the user's own
    start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # seconds of user and system
    done = subprocess.run(['make', 'setup'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert venv_python.exists()
    assert '/5 ' not in done.stdout  # none of the steps
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start < 3
