"""Installs and runs converters."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...checkpoints.download import cache_folder
from ...errors import UserError

#: Environment variable: the folder of the environments, which are large. Default: in the cache.
FOLDER = 'EDGENEXT_MM_CONVERTERS'
#: Written when an installation is complete.
_COMPLETE = 'complete'


class Converter(NamedTuple):
    """A converter.

    Args:
        requirements: What is installed for it. Versions are fixed: a converter works with few
            versions of torch.
        script: The file in this folder that runs in its environment.
        size: Space on disk, for people who wait.
    """

    requirements: tuple[str, ...]
    script: str
    size: str

    @property
    def folder(self) -> Path:
        """The folder of its environment, one for each set of requirements and version of Python."""
        version = '.'.join(map(str, sys.version_info[:2]))
        digest = hashlib.sha256('\n'.join((version, *self.requirements)).encode()).hexdigest()
        root = Path(os.environ.get(FOLDER) or cache_folder('converters'))
        return root / f'{self.script.removesuffix(".py")}-{digest[:8]}'

    @property
    def python(self) -> Path:
        """The Python of its environment."""
        return self.folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')

    @property
    def is_installed(self) -> bool:
        """Whether its environment is complete."""
        return (self.folder / _COMPLETE).is_file()


CONVERTERS = {
    'litert': Converter(
        ('litert-torch==0.10.0', 'ai-edge-litert==2.3.0', 'torch==2.14.1'), 'litert.py', '7 GB'
    ),
    # Each release of ExecuTorch is built for one release of torch.
    'executorch': Converter(('executorch==1.3.1', 'torch==2.12.1'), 'executorch.py', '7 GB'),
}


def install_converter(name: str, report: Callable[[str], None] = print) -> Path:
    """Creates the environment of a converter, unless it is complete.

    Args:
        name: A key of :data:`CONVERTERS`.
        report: Called with messages on the progress.

    Returns:
        Its folder.

    Raises:
        UserError: If pip fails.
    """
    converter = CONVERTERS[name]
    if converter.is_installed:
        report(f'The converter {name} is installed in {converter.folder}.')
        return converter.folder
    report(f'Installing {", ".join(converter.requirements)} into {converter.folder}.')
    report(f'It takes about {converter.size} of disk space and some minutes.')
    commands = (
        [sys.executable, '-m', 'venv', '--clear', str(converter.folder)],
        [str(converter.python), '-m', 'pip', 'install', *converter.requirements],
    )
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            raise UserError(
                f'The converter {name} could not be installed: see the messages above. It needs '
                'access to PyPI. The next call starts again.'
            )
    (converter.folder / _COMPLETE).touch()
    report(f'The converter {name} is ready.')
    return converter.folder


def run_converter(name: str, arguments: Sequence[str | Path]) -> str:
    """Runs a converter, and returns what it printed.

    Args:
        name: A key of :data:`CONVERTERS`.
        arguments: Arguments of its script.

    Raises:
        UserError: If it is not installed, or fails.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile('w+') as messages:
        process = start_converter(name, arguments, cwd=folder, stderr=messages)
        printed, _ = process.communicate()
        messages.seek(0)
        lines = [line.strip() for line in messages if line.strip()]
    if process.returncode:
        errors = [line for line in lines if re.match(r'[\w.]+(Error|Exception): ', line)]
        reason = (errors or lines or ['no message'])[-1]
        raise UserError(f'The converter {name} ended with status {process.returncode}: {reason}')
    return printed.decode()


def start_converter(
    name: str,
    arguments: Sequence[str | Path | int],
    cwd: str | Path | None = None,
    stderr: Any = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Starts the script of a converter, with pipes to its input and from its output.

    Args:
        name: A key of :data:`CONVERTERS`.
        arguments: Arguments of the script.
        cwd: Folder in which it runs. Default: the current one.
        stderr: Where its messages go. Default: nowhere.

    Raises:
        UserError: If it is not installed.
    """
    converter = CONVERTERS[name]
    if not converter.is_installed:
        raise UserError(
            f'The format {name} needs a converter that cannot be installed beside the OpenMMLab '
            f'libraries. Install it into an environment of its own with `python '
            f'tools/deployment/install_converter.py {name}` (about {converter.size}).'
        )
    script = Path(__file__).with_name(converter.script)
    # -I: no module comes from PYTHONPATH or from the script's folder, which has names of packages.
    command = [str(converter.python), '-I', str(script), *map(str, arguments)]
    # Converters call programs of their environment.
    path = f'{converter.python.parent}{os.pathsep}{os.environ.get("PATH", "")}'
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=cwd, env={**os.environ, 'PATH': path}, stdin=pipe, stdout=pipe, stderr=stderr
    )
