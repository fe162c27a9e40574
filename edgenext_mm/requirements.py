"""Checks and imports of the OpenMMLab libraries.

mmengine and mmcv are needed to import the package, a task library only to use its parts. The
version ranges are those in setup.py.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import sys
from collections.abc import Iterator

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
        version = _version(module, distribution)
        if not needed.specifier.contains(version, prereleases=True):
            raise ImportError(
                f'edgenext_mm needs {module}{needed.specifier}, but {version} is installed. {hint}'
            )


def _version(module: str, distribution: str) -> str:
    """Returns the version of a library, if possible without its import, which takes seconds."""
    if module not in sys.modules:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a fork's name
            return importlib.metadata.version(distribution)
    return importlib.import_module(module).__version__


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


def import_task_library(scope: str | None) -> None:
    """Imports a task library with its data sets.

    Args:
        scope: The ``default_scope`` of a config. Scopes of other libraries are ignored.
    """
    if scope in TASK_LIBRARIES:
        with quiet_libraries():
            importlib.import_module(f'{scope}.datasets')


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Redirects what libraries print on import to stderr, since stdout may be read as JSON.

    Lines about OneDL, a data format that is not used here, are dropped. mmengine's ``print_log``
    prints them at any log level if there is no logger yet.
    """
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            yield
        finally:
            lines = [line for line in output.getvalue().splitlines() if 'OneDL' not in line]
            print(*lines, sep='\n', end='\n' if lines else '', file=sys.stderr)


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
