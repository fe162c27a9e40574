"""ncnn files, converted from TorchScript by pnnx: a graph, its weights and the metadata."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import torch_files
from .content import KEY, Content, Metadata


def write(content: Content, path: Path) -> None:
    """Writes an ncnn file.

    pnnx runs in a process of its own: it ends by signals when it does not support a model.

    Raises:
        UserError: If pnnx fails, or leaves operators that ncnn does not have.
    """
    import pnnx

    weights, description = _beside(path)
    metadata = content.metadata
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder, 'traced.pt')
        torch_files.trace(content.network, content.example).save(str(traced))
        size = ','.join(map(str, content.example.shape))
        # All outputs are named: pnnx writes the others into the current folder.
        command = [pnnx.EXEC_PATH, traced.name, f'inputshape=[{size}]', 'optlevel=2', 'device=cpu']
        command += [f'fp16={int(metadata.precision == "fp16")}', 'ncnnpy=ncnn.py', 'pnnxpy=pnnx.py']
        command += [f'ncnnparam={path.resolve()}', f'ncnnbin={weights.resolve()}']
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    messages = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode or not path.is_file():
        reason = messages[-1] if messages else 'no message'
        raise UserError(f'pnnx ended with status {done.returncode}: {reason}')
    if unknown := sorted({kind for kind in _layer_types(path) if '.' in kind or ':' in kind}):
        raise UserError(f'ncnn has no operators for {", ".join(unknown)} of this model.')
    stored = dict(sha256=_digest(path, weights), metadata=metadata.to_json())
    description.write_text(json.dumps({KEY: stored}, indent=1) + '\n')


def _beside(path: Path) -> tuple[Path, Path]:
    """Returns the paths of the weights and of the metadata."""
    return path.with_suffix('.bin'), path.with_suffix('.json')


def _layer_types(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()[2:]]


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class NcnnSession:
    """Runs an ncnn file on the CPU, one image at a time.

    Args:
        path: Path of the graph; weights and metadata lie beside it.
        threads: Number of CPU threads. Default: the choice of ncnn.

    Raises:
        UserError: If a file is missing, incomplete or was changed.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        weights, description = _beside(path)
        for file in (weights, description):
            if not file.is_file():
                raise UserError(
                    f'{path} cannot be read as ncnn: {file.name} is missing beside it. Copy the '
                    'three files together.'
                )
        stored = _read_description(description)
        if _digest(path, weights) != stored.get('sha256'):
            raise UserError(
                f'{path} cannot be read as ncnn: it or {weights.name} is incomplete or was '
                f'changed after {description.name} had been written. Copy or export it again.'
            )
        self.metadata = Metadata.from_json(stored.get('metadata'), path)
        import ncnn

        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        half = self.metadata.precision == 'fp16'
        for name in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'):
            setattr(options, name, half)
        options.use_bf16_storage = False
        if threads:
            options.num_threads = threads
        if self._net.load_param(str(path)) or self._net.load_model(str(weights)):
            raise UserError(f'{path} cannot be read as ncnn.')

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        image = np.ascontiguousarray(x.detach().cpu().numpy()[0])
        outputs = []
        with self._net.create_extractor() as extractor:
            extractor.input('in0', self._ncnn.Mat(image))
            for i, name in enumerate(self.metadata.outputs):
                status, output = extractor.extract(f'out{i}')
                if status:
                    raise UserError(f'ncnn could not compute the output {name}.')
                outputs.append(torch.from_numpy(np.array(output))[None])
        return outputs


def _read_description(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())[KEY]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} cannot be read as the metadata of an ncnn file. Copy or export it again.'
        ) from error
    return stored if isinstance(stored, dict) else {}


open_session = NcnnSession
