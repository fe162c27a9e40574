"""Which OpenMMLab libraries are there, and whether their versions will do.

mmengine and mmcv are needed to import the package. A task library is needed only where its own
parts are asked for.
"""

from __future__ import annotations

import importlib
import importlib.util

from packaging.version import Version

from .errors import UserError

#: Module: distribution, first version that will do, first that will not.
CORE = {
    'mmengine': ('onedl-mmengine', '0.10.10', '1'),
    'mmcv': ('onedl-mmcv', '2.3.4', '3'),
}
TASK_LIBRARIES = {
    'mmpretrain': ('onedl-mmpretrain', '1.3.5', '2'),
    'mmdet': ('onedl-mmdetection', '3.5', '4'),
    'mmseg': ('onedl-mmsegmentation', '1.4', '2'),
    'mmrotate': ('onedl-mmrotate', '1.2', '2'),
}


def check_requirements() -> None:
    """Makes sure that mmengine and mmcv are there, in versions that work.

    Raises:
        ImportError: If not; says what to install.
    """
    for name, (distribution, low, high) in CORE.items():
        hint = f'Install it with `pip install "{distribution}>={low},<{high}"`.'
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'edgenext_mm needs {name}, which is not installed. {hint}')
        version = importlib.import_module(name).__version__
        if not Version(low) <= Version(version) < Version(high):
            raise ImportError(
                f'edgenext_mm needs {name}>={low},<{high}, but {version} is installed. {hint}'
            )


def require_task_library(scope: str) -> None:
    """Makes sure that the task library of a config's ``default_scope`` is installed.

    Raises:
        UserError: If it is not; names the package to install.
    """
    if scope in TASK_LIBRARIES and importlib.util.find_spec(scope) is None:
        distribution, low, high = TASK_LIBRARIES[scope]
        raise UserError(
            f'This config needs {scope}, which is not installed. '
            f'Install it with `pip install "{distribution}>={low},<{high}"`.'
        )
