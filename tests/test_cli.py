import os
import subprocess
import sys

import pytest
from paths import ROOT

HIDE = """
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.split('.')[0] == '{library}' else find(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.mark.parametrize(
    ('library', 'package', 'config'),
    [
        ('mmpretrain', 'onedl-mmpretrain', 'classification/edgenext-xxsmall_digits.py'),
        # A base of mmdet's, and parts of ours that stand on mmdet and mmrotate.
        ('mmdet', 'onedl-mmdetection', 'detection/gfl_edgenext-xxsmall_fpn_digits.py'),
        ('mmseg', 'onedl-mmsegmentation', 'segmentation/deeplabv3_edgenext-xxsmall_digits.py'),
        (
            'mmrotate',
            'onedl-mmrotate',
            'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py',
        ),
    ],
)
def test_a_missing_task_library_is_named_with_its_package(library, package, config, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(HIDE.format(library=library))
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs' / config],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f'error: This config needs {library}, which is not installed.' in done.stderr
    assert f'pip install "{package}' in done.stderr
    assert 'Traceback' not in done.stderr
