"""Which OpenMMLab libraries are there, and whether their versions will do.

mmengine and mmcv are needed to import the package. A task library is needed only where its own
parts are asked for. The ranges are those that setup.py declares.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util

from packaging.requirements import Requirement

from .errors import UserError

CORE = {'mmengine': 'onedl-mmengine', 'mmcv': 'onedl-mmcv'}
TASK_LIBRARIES = {
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'mmrotate': 'onedl-mmrotate',
}


def check_requirements() -> None:
    """Makes sure that mmengine and mmcv are there, in versions that work.

    Raises:
        ImportError: If not; says what to install.
    """
    for module, distribution in CORE.items():
        needed = _declared(distribution)
        hint = f'Install it with `pip install "{needed}"`.'
        if importlib.util.find_spec(module) is None:
            raise ImportError(f'edgenext_mm needs {module}, which is not installed. {hint}')
        version = importlib.import_module(module).__version__
        if not needed.specifier.contains(version, prereleases=True):
            raise ImportError(
                f'edgenext_mm needs {module}{needed.specifier}, but {version} is installed. {hint}'
            )


def require_task_library(scope: str) -> None:
    """Makes sure that the task library of a config's ``default_scope`` is installed.

    Raises:
        UserError: If it is not; names the package to install.
    """
    if scope in TASK_LIBRARIES and importlib.util.find_spec(scope) is None:
        raise UserError(
            f'This config needs {scope}, which is not installed. '
            f'Install it with `pip install "{_declared(TASK_LIBRARIES[scope])}"`.'
        )


def _declared(distribution: str) -> Requirement:
    """Name and range of a dependency; any version where the package itself is not installed."""
    try:
        declared = importlib.metadata.requires('edgenext_mm') or []
    except importlib.metadata.PackageNotFoundError:
        declared = []
    for requirement in map(Requirement, declared):
        if requirement.name == distribution:
            return Requirement(f'{distribution}{requirement.specifier}')
    return Requirement(distribution)
