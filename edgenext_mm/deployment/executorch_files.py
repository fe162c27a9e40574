"""ExecuTorch files for XNNPACK, written and run in an environment of ExecuTorch's own."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ..errors import UserError
from ..runtime.metadata import Metadata
from . import torch_files
from .content import Content
from .converters import run_converter, start_converter


def write(content: Content, path: Path) -> None:
    """Writes an ExecuTorch file, and logs which operators XNNPACK does not run.

    Raises:
        UserError: If ExecuTorch is not installed, or cannot convert the network.
    """
    with tempfile.TemporaryDirectory() as folder:
        program, metadata = Path(folder, 'program.pt2'), Path(folder, 'metadata.json')
        torch_files.save_program(content.network, content.example, program)
        metadata.write_text(content.metadata.to_json())
        arguments = [program, metadata, path.resolve(), *content.save_calibration(folder)]
        printed = run_converter('executorch', ['convert', *arguments])
    outside = json.loads(printed.strip().splitlines()[-1])
    listed = ', '.join(f'{count} x {name}' for name, count in sorted(outside.items()))
    if outside:
        print_log(f'Operators outside of XNNPACK: {listed}.', 'current')


class ExecutorchSession:
    """Runs an ExecuTorch file on the CPU, one image at a time, in a process of its own.

    Args:
        path: Path of the file.
        threads: Number of CPU threads. Default: the choice of ExecuTorch.

    Raises:
        UserError: If ExecuTorch is not installed, or cannot read the file.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._process = start_converter(
            'executorch', ['run', path.resolve(), threads or 0], stderr=self._messages
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        try:
            (text,) = self._receive()
        except (OSError, ValueError, EOFError) as error:
            self.close()
            self._messages.seek(0)
            last = self._messages.read().decode(errors='replace').splitlines()[-20:]
            lines = [line for line in last if line.startswith('[') or 'Error' in line]
            raise UserError(
                f'{path} cannot be read as ExecuTorch.' + ''.join(f'\n  {line}' for line in lines)
            ) from error
        self.metadata = Metadata.from_json(bytes(text).decode(), path)

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        message = io.BytesIO()
        np.save(message, x.detach().cpu().numpy())
        try:
            self._input.write(b'%d\n' % message.tell() + message.getbuffer())
            self._input.flush()
            return [torch.from_numpy(output) for output in self._receive()]
        except (OSError, ValueError) as error:  # the process has ended
            raise UserError(
                f'ExecuTorch ended with status {self._process.wait()} while it ran {self.path}. '
                'Export the file again; if it fails again, choose another format.'
            ) from error

    def _receive(self) -> Sequence[np.ndarray]:
        size = int(self._output.readline())
        with np.load(io.BytesIO(self._output.read(size))) as arrays:
            return [arrays[name] for name in arrays.files]

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()

    def __del__(self) -> None:
        if hasattr(self, '_process'):
            self.close()


open_session = ExecutorchSession
