"""tools/doctor.py, loaded from its file since it is no module of the package."""

import importlib.util
import subprocess
import sys

import pytest
from paths import ROOT


@pytest.fixture
def doctor():
    spec = importlib.util.spec_from_file_location('doctor', ROOT / 'tools' / 'doctor.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install(doctor, monkeypatch):
    """Makes the doctor find the given distributions, all in version 1.2.3, and no others."""

    def only(*names):
        monkeypatch.setattr(doctor, 'version_of', dict.fromkeys(names, '1.2.3').get)

    return only


def test_this_environment_works(run_tool):
    report = run_tool('doctor.py').stdout
    for name in ('python', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet'):
        assert f'ok     {name}' in report
    assert 'load and run' in report
    assert 'GPUs' in report


def test_it_runs_without_any_package(tmp_path):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'bare'], check=True)
    done = subprocess.run(
        [tmp_path / 'bare' / 'bin' / 'python', ROOT / 'tools' / 'doctor.py'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'WRONG  torch' in done.stdout
    assert 'fix: pip install torch' in done.stdout
    assert 'fix: python tools/setup_env.py --mmcv-only' in done.stdout
    assert 'problems to fix' in done.stderr


def test_a_dependency_in_a_version_that_a_library_does_not_take_is_named(
    doctor, monkeypatch, tmp_path
):
    """mmpretrain 1.3.6 imports transformers if it is installed, and fails with version 5."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers' / '__init__.py').touch()
    folder = tmp_path / 'transformers-5.0.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, 'SNIPPETS', {'mmpretrain': doctor.SNIPPETS['mmpretrain']})
    outcome = doctor.run_snippets()['mmpretrain']
    finding = doctor.check_package('mmpretrain', 'onedl-mmpretrain', outcome)
    assert 'does not import' in finding.state
    assert 'needs transformers<5' in finding.state
    assert 'installed: 5.0.0' in finding.state
    assert finding.fix.startswith("pip install 'transformers<5")


@pytest.mark.parametrize(
    ('names', 'module', 'fix'),
    [
        (
            ('onedl-mmcv', 'mmcv'),
            'mmcv',
            'pip uninstall -y mmcv && pip install --force-reinstall --no-deps onedl-mmcv==1.2.3',
        ),
        (
            ('opencv-python', 'opencv-python-headless'),
            'cv2',
            'pip uninstall -y opencv-python-headless && '
            'pip install --force-reinstall --no-deps opencv-python==1.2.3',
        ),
        (('mmengine',), 'mmengine', 'pip uninstall -y mmengine && pip install onedl-mmengine'),
        (('mmcv',), 'mmcv', 'pip uninstall -y mmcv && python tools/setup_env.py --mmcv-only'),
        (('onedl-mmcv', 'opencv-python'), None, None),
        (('opencv-python-headless',), None, None),
    ],
)
def test_distributions_that_overwrite_each_other_are_found(doctor, install, names, module, fix):
    install(*names)
    findings = list(doctor.check_rivals())
    assert [(f.name, f.fix) for f in findings] == ([(module, fix)] if module else [])
    assert all(names[-1] in f.state for f in findings)


@pytest.mark.parametrize(
    ('module', 'distribution', 'error', 'fix'),
    [
        ('mmrotate', None, '', ''),  # optional
        ('torch', None, '', 'pip install torch'),
        (
            'mmdet', 'onedl-mmdetection', "ModuleNotFoundError: No module named 'shapely'",
            'pip install shapely',
        ),
        ('edgenext_mm', 'edgenext_mm', 'ImportError: x', 'fix the packages above'),
    ],
)  # fmt: skip
def test_packages_that_do_not_import(doctor, install, module, distribution, error, fix):
    install(distribution)
    distribution = distribution or doctor.PACKAGES[module][0]
    assert doctor.check_package(module, distribution, doctor.Outcome(False, error)).fix == fix


def test_ops_that_do_not_load_are_found(doctor, install):
    install('onedl-mmcv')
    finding = doctor.check_ops({'ops': doctor.Outcome(False, 'ImportError: undefined symbol')})
    assert 'undefined symbol' in finding.state
    assert finding.fix == 'python tools/setup_env.py --mmcv-only'


def test_the_report_continues_after_a_package_that_crashes(doctor, monkeypatch):
    snippets = {'first': 'result = "fine"', 'second': 'import os; os.abort()', 'third': ''}
    monkeypatch.setattr(doctor, 'SNIPPETS', snippets)
    outcomes = doctor.run_snippets()
    assert outcomes['first'] == (True, 'fine')
    assert not outcomes['second'].works
    assert 'crashed' in outcomes['third'].text


def test_a_problem_means_status_1(doctor, monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'check_installation', lambda: [doctor.Finding('a', 'b', 'do it')])
    monkeypatch.setattr(sys, 'argv', ['doctor.py'])
    with pytest.raises(SystemExit, match='1 problem to fix'):
        doctor.main()
    assert 'fix: do it' in capsys.readouterr().out
