"""The doctor stands alone, so it is loaded from its file."""

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


def installed(doctor, monkeypatch, *names):
    versions = dict.fromkeys(names, '1.2.3')
    monkeypatch.setattr(doctor, 'version_of', versions.get)


def test_this_environment_is_sound(run_tool):
    report = run_tool('doctor.py').stdout
    for name in ('python', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet'):
        assert f'ok     {name}' in report
    assert 'load and run' in report
    assert 'GPUs' in report


def test_the_doctor_runs_where_nothing_is_installed(tmp_path):
    """In a bare interpreter, without any of the packages, it still reports and exits with 1."""
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', str(tmp_path / 'bare')], check=True
    )
    done = subprocess.run(
        [str(tmp_path / 'bare' / 'bin' / 'python'), str(ROOT / 'tools' / 'doctor.py')],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'WRONG  torch' in done.stdout
    assert 'mend: pip install torch' in done.stdout
    assert 'mend: python tools/setup_env.py --mmcv-only' in done.stdout
    assert 'things to mend' in done.stderr


def test_a_version_that_a_library_does_not_import_beside_is_named(doctor, monkeypatch, tmp_path):
    """mmpretrain 1.3.6 imports transformers where it is installed, and not version 5."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers' / '__init__.py').touch()
    folder = tmp_path / 'transformers-5.0.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    for table in ('PACKAGES', 'SNIPPETS'):
        monkeypatch.setattr(doctor, table, {'mmpretrain': getattr(doctor, table)['mmpretrain']})
    (finding,) = doctor.examine_packages(doctor.probe())
    assert 'does not import' in finding.state
    assert 'wants another transformers 5.0.0' in finding.state
    assert finding.mend.startswith("pip install 'transformers<5")


@pytest.mark.parametrize(
    ('names', 'module', 'mend'),
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
        (
            ('mmengine',),
            'mmengine',
            'pip uninstall -y mmengine && pip install onedl-mmengine',
        ),
    ],
)
def test_two_distributions_of_one_module_are_found(doctor, monkeypatch, names, module, mend):
    installed(doctor, monkeypatch, *names)
    (finding,) = doctor.examine_rivals()
    assert finding.name == module
    assert names[-1] in finding.state
    assert finding.mend == mend


@pytest.mark.parametrize('names', [('onedl-mmcv', 'opencv-python'), ('opencv-python-headless',)])
def test_one_distribution_of_each_module_is_fine(doctor, monkeypatch, names):
    installed(doctor, monkeypatch, *names)
    assert list(doctor.examine_rivals()) == []


def test_an_optional_library_may_be_absent(doctor, monkeypatch):
    installed(doctor, monkeypatch)
    outcomes = dict.fromkeys(doctor.SNIPPETS, doctor.Outcome(False, 'ModuleNotFoundError'))
    findings = {finding.name: finding for finding in doctor.examine_packages(outcomes)}
    assert findings['mmrotate'].mend == ''
    assert 'optional' in findings['mmrotate'].state
    assert findings['torch'].mend == 'pip install torch'


def test_a_missing_dependency_of_a_package_is_named(doctor, monkeypatch):
    installed(doctor, monkeypatch, 'onedl-mmdetection')
    outcomes = dict.fromkeys(doctor.SNIPPETS, doctor.Outcome(False, ''))
    outcomes['mmdet'] = doctor.Outcome(False, "ModuleNotFoundError: No module named 'shapely'")
    findings = {finding.name: finding for finding in doctor.examine_packages(outcomes)}
    assert findings['mmdet'].mend == 'pip install shapely'


def test_ops_that_do_not_load_are_found(doctor, monkeypatch):
    installed(doctor, monkeypatch, 'onedl-mmcv')
    outcomes = {'ops': doctor.Outcome(False, 'ImportError: undefined symbol')}
    finding = doctor.examine_ops(outcomes)
    assert 'undefined symbol' in finding.state
    assert finding.mend == 'python tools/setup_env.py --mmcv-only'


def test_a_crash_of_one_package_is_not_the_end_of_the_report(doctor, monkeypatch):
    snippets = {'first': 'result = "fine"', 'second': 'import os; os.abort()', 'third': ''}
    monkeypatch.setattr(doctor, 'SNIPPETS', snippets)
    outcomes = doctor.probe()
    assert outcomes['first'] == (True, 'fine')
    assert not outcomes['second'].works
    assert 'crashed' in outcomes['third'].text


def test_anything_wrong_means_status_1(doctor, monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'examine', lambda: iter([doctor.Finding('a', 'b', 'mend it')]))
    monkeypatch.setattr(sys, 'argv', ['doctor.py'])
    with pytest.raises(SystemExit, match='1 thing to mend'):
        doctor.main()
    assert 'mend: mend it' in capsys.readouterr().out
