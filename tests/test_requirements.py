"""The package imports with few libraries installed, and names those that are missing."""

import importlib.metadata
import pkgutil
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
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
#: Modules that need a task library; the configs that use them import them.
NEEDS = {
    'edgenext_mm.datasets.transforms': {'mmpretrain'},
    'edgenext_mm.datasets.image_folder': {'mmpretrain'},
    'edgenext_mm.models.classifiers.distilled_classifier': {'mmpretrain'},
    'edgenext_mm.models.necks.ssdlite_neck': {'mmdet'},
    'edgenext_mm.models.heads.ssd_head': {'mmdet'},
    'edgenext_mm.models.heads.rotated_gfl_head': {'mmdet', 'mmrotate'},
}


def run_without(hidden, code, status=1):
    done = subprocess.run(
        [sys.executable, '-c', HIDE.format(hidden=set(hidden)) + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.parametrize(
    'libraries', [['mmpretrain'], ['mmdet'], ['mmseg'], ['mmdet', 'mmrotate']], ids='-'.join
)
def test_every_module_imports_with_the_task_library_that_it_needs(libraries):
    names = [m.name for m in pkgutil.walk_packages(edgenext_mm.__path__, 'edgenext_mm.')]
    assert set(NEEDS) < set(names)
    importable = [name for name in names if NEEDS.get(name, set()) <= set(libraries)]
    code = ''.join(f'import {name}\n' for name in importable)
    code += "import edgenext_mm; print(edgenext_mm.EdgeNeXt('xxsmall').arch.dims)"
    assert '(24, 48, 88, 168)' in run_without(
        TASK_LIBRARIES - set(libraries) | EXTRAS, code, status=0
    )


@pytest.mark.parametrize(
    ('module', 'distribution'), [('mmengine', 'onedl-mmengine'), ('mmcv', 'onedl-mmcv')]
)
def test_a_missing_core_library_is_named_with_what_to_install(module, distribution):
    error = run_without({module}, 'from edgenext_mm import EdgeNeXt')
    assert f'edgenext_mm needs {module}, which is not installed' in error
    assert f'pip install "{distribution}<' in error


def test_an_old_core_library_is_named_with_what_to_install():
    error = run_without((), "import mmcv; mmcv.__version__ = '2.1.0'; import edgenext_mm")
    assert 'needs mmcv<3,>=2.3.4, but 2.1.0 is installed' in error


@pytest.mark.parametrize(
    ('library', 'requirement', 'config'),
    [
        (
            'mmpretrain', 'onedl-mmpretrain<2,>=1.3.5',
            'classification/edgenext-xxsmall_digits',
        ),
        # A base from mmdet, and parts of ours that need mmdet and mmrotate.
        ('mmdet', 'onedl-mmdetection', 'detection/gfl_edgenext-xxsmall_fpn_digits'),
        ('mmseg', 'onedl-mmsegmentation', 'segmentation/deeplabv3_edgenext-xxsmall_digits'),
        (
            'mmrotate', 'onedl-mmrotate',
            'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits',
        ),
    ],
)  # fmt: skip
def test_a_missing_task_library_is_named_when_its_config_is_loaded(library, requirement, config):
    code = f"from edgenext_mm.config import load_config; load_config('configs/{config}.py')"
    error = run_without({library}, code).splitlines()[-1]
    assert f'UserError: This config needs {library}, which is not installed.' in error
    assert f'pip install "{requirement}' in error


def test_missing_extras_are_named_when_they_are_needed():
    code = """
from benchmarks.models import build_named
from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.datasets import write_digits
for call in (
    lambda: count_complexity(None, (1, 1)),
    lambda: write_digits('x'),
    lambda: build_named('timm:resnet18'),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    messages = run_without(EXTRAS, code, status=0).splitlines()
    for message, name in zip(messages, ('fvcore', 'scikit-learn', 'timm'), strict=True):
        assert f'pip install {name}' in message


def test_every_requirement_of_the_package_is_in_the_tested_environment():
    """So that a fresh one has it, too: named in a file, or required by a package that is."""
    named = set()
    for path in (ROOT / 'requirements').glob('*.txt'):
        if path.name != 'constraints.txt':
            named |= set(re.findall(r'^[A-Za-z][\w.-]*', path.read_text(), re.MULTILINE))
    found, queue = set(), [canonical(name) for name in named]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += [canonical(r.name) for r in requirements_of(name) if applies(r)]
    assert {canonical(r.name) for r in requirements_of('edgenext_mm')} <= found


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def requirements_of(name):
    try:
        return [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    except importlib.metadata.PackageNotFoundError:  # replaced: requirements/no_deps.txt
        return []


def applies(requirement):
    return requirement.marker is None or requirement.marker.evaluate({'extra': ''})
