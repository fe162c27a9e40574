"""The package imports with little installed, and says what is missing when it is asked for."""

import pkgutil
import subprocess
import sys

import pytest
from paths import ROOT

import edgenext_mm

TASK_LIBRARIES = {'mmpretrain', 'mmdet', 'mmseg', 'mmrotate'}
#: What only tools or tests need.
EXTRAS = {'timm', 'fvcore', 'psutil', 'sklearn'}
HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hide())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {hidden!r} else find_spec(name, *a)
"""


def run_without(hidden, code):
    return subprocess.run(
        [sys.executable, '-c', HIDE.format(hidden=set(hidden)) + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


#: Parts that stand on a task library; the configs that use them import them.
NEEDS = {
    'edgenext_mm.datasets.transforms': {'mmpretrain'},
    'edgenext_mm.datasets.image_folder': {'mmpretrain'},
    'edgenext_mm.models.classifiers.distilled_classifier': {'mmpretrain'},
    'edgenext_mm.models.necks.ssdlite_neck': {'mmdet'},
    'edgenext_mm.models.heads.ssd_head': {'mmdet'},
    'edgenext_mm.models.heads.rotated_gfl_head': {'mmdet', 'mmrotate'},
}


def modules(libraries):
    names = [m.name for m in pkgutil.walk_packages(edgenext_mm.__path__, 'edgenext_mm.')]
    assert set(NEEDS) < set(names)
    return [name for name in names if NEEDS.get(name, set()) <= libraries]


@pytest.mark.parametrize(
    'libraries',
    [{'mmpretrain'}, {'mmdet'}, {'mmseg'}, {'mmrotate'}, {'mmdet', 'mmrotate'}],
    ids=lambda libraries: '-'.join(sorted(libraries)),
)
def test_every_module_imports_with_the_task_library_that_it_needs(libraries):
    code = ''.join(f'import {name}\n' for name in modules(libraries))
    code += "import edgenext_mm; print(edgenext_mm.EdgeNeXt('xxsmall').arch.dims)"
    done = run_without(TASK_LIBRARIES - libraries | EXTRAS, code)
    assert done.returncode == 0, done.stderr
    assert '(24, 48, 88, 168)' in done.stdout


@pytest.mark.parametrize(
    ('module', 'distribution'), [('mmengine', 'onedl-mmengine'), ('mmcv', 'onedl-mmcv')]
)
def test_a_missing_core_library_is_named_with_what_to_install(module, distribution):
    done = run_without({module}, 'import edgenext_mm')
    assert done.returncode == 1
    assert f'edgenext_mm needs {module}, which is not installed' in done.stderr
    assert f'pip install "{distribution}<' in done.stderr


def test_an_old_core_library_is_named_with_what_to_install():
    done = run_without((), "import mmcv; mmcv.__version__ = '2.1.0'; import edgenext_mm")
    assert done.returncode == 1
    assert 'needs mmcv<3,>=2.3.4, but 2.1.0 is installed' in done.stderr


def test_a_missing_task_library_is_named_when_its_config_is_loaded():
    code = (
        'from edgenext_mm.config import load_config\n'
        "load_config('configs/classification/edgenext-xxsmall_digits.py')"
    )
    done = run_without(TASK_LIBRARIES, code)
    assert done.returncode == 1
    assert 'needs mmpretrain, which is not installed' in done.stderr
    assert 'pip install "onedl-mmpretrain<2,>=1.3.5"' in done.stderr


@pytest.mark.parametrize(
    ('hidden', 'call', 'hint'),
    [
        (
            'fvcore',
            'from edgenext_mm.apis.complexity import count_complexity as f; f(None, (1, 1))',
            'fvcore',
        ),
        ('sklearn', "from edgenext_mm.datasets import write_digits as f; f('x')", 'scikit-learn'),
        ('timm', "from benchmarks.models import build_named as f; f('timm:resnet18')", 'timm'),
    ],
)
def test_a_missing_extra_is_named_when_it_is_needed(hidden, call, hint):
    done = run_without({hidden}, call)
    assert done.returncode == 1
    assert f'pip install {hint}' in done.stderr
