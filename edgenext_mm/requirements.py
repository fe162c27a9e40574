"""Checks of the installed OpenMMLab libraries.

mmengine and mmcv are needed to import the package, a task library only to use its parts. The
version ranges are those in setup.py.
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
    """Checks that mmengine and mmcv are installed in supported versions.

    Raises:
        ImportError: If they are not. The message gives the command to install them.
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
    """Checks that a task library is installed.

    Args:
        scope: The ``default_scope`` of a config. Scopes of other libraries are ignored.

    Raises:
        UserError: If the library is not installed. The message gives the command to install it.
    """
    if scope in TASK_LIBRARIES and importlib.util.find_spec(scope) is None:
        raise UserError(
            f'This config needs {scope}, which is not installed. '
            f'Install it with `pip install "{_declared(TASK_LIBRARIES[scope])}"`.'
        )


def _declared(distribution: str) -> Requirement:
    """Name and version range of a dependency; any version if the package is not installed."""
    try:
        declared = importlib.metadata.requires('edgenext_mm') or []
    except importlib.metadata.PackageNotFoundError:
        declared = []
    for requirement in map(Requirement, declared):
        if requirement.name == distribution:
            return Requirement(f'{distribution}{requirement.specifier}')
    return Requirement(distribution)
