"""ncnn files, converted from TorchScript by pnnx: a graph, its weights and the metadata."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from ..errors import UserError
from ..runtime.metadata import KEY
from ..runtime.sessions.ncnn import beside, digest
from . import torch_files
from .content import Content


def write(content: Content, path: Path) -> None:
    """Writes an ncnn file.

    pnnx runs in a process of its own: it ends by signals when it does not support a model.

    Raises:
        UserError: If pnnx fails, or leaves operators that ncnn does not have.
    """
    import pnnx

    weights, description = beside(path)
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
    stored = dict(sha256=digest(path, weights), metadata=metadata.to_json())
    description.write_text(json.dumps({KEY: stored}, indent=1) + '\n')


def _layer_types(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()[2:]]
