"""Checkpoint files, read as data: nothing that they bring along is run.

torch's weights-only unpickler makes objects of a few known classes; a file that asks for anything
else is refused.
"""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..errors import UserError


def _method_of_history(owner: Any, name: str) -> Any:
    """What pickle writes as ``getattr``: the methods by which a logged history is summed up."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner}, {name!r})')


_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
#: What checkpoints of OpenMMLab and of the authors hold besides tensors and plain values: logged
#: histories, random states, and the command line of the authors' training. NumPy 1 and 2 name their
#: functions differently; files of both are read under both.
SAFE_CLASSES = [
    HistoryBuffer,
    (_method_of_history, 'builtins.getattr'),
    argparse.Namespace,
    collections.deque,
    np.ndarray,
    np.dtype,
    *(
        (function, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for function, name in ((_RECONSTRUCT, '_reconstruct'), (_SCALAR, 'scalar'))
    ),
    *(type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u4', 'u8', '?')),
]
#: Set to 1, files are unpickled without these limits.
OPT_OUT = 'EDGENEXT_MM_UNSAFE_LOAD'


def read_file(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """The content of a ``.pth`` or ``.safetensors`` file.

    Args:
        path: Of the file.
        map_location: Where tensors go. Default: the CPU.

    Raises:
        UserError: If it is no checkpoint, is cut short, or holds objects of classes that
            checkpoints have no use for.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    _refuse_other_files(path)
    trusted = os.environ.get(OPT_OUT) == '1'
    try:
        with torch.serialization.safe_globals(SAFE_CLASSES):
            content = torch.load(path, map_location=map_location, weights_only=not trusted)
    except pickle.UnpicklingError as error:
        raise UserError(_explain(path, str(error))) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(_cut_short(path, error)) from error
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__}, not a checkpoint.')
    return dict(content)


def _refuse_other_files(path: Path) -> None:
    with path.open('rb') as file:
        start = file.read(512).lstrip()
    if not start:
        raise UserError(f'{path} is empty.')
    if start.startswith(b'<'):
        raise UserError(
            f'{path} is a web page, not a checkpoint; what was downloaded may be a notice of an '
            'error or a login.'
        )


def _explain(path: Path, message: str) -> str:
    found = re.search(r'GLOBAL (.+?)(?: was not| whose module|\n|$)', message)
    if found is None:
        return _cut_short(path, message.strip().partition('\n')[0])
    return (
        f'{path} was not loaded: it calls for {found[1]}, which no checkpoint of weights needs. '
        'Unpickling can run any program that the file brings along. If you made the file yourself '
        f'or trust who did, set {OPT_OUT}=1 and try again.'
    )


def _cut_short(path: Path, error: Any) -> str:
    return f'{path} cannot be read as a PyTorch checkpoint; it may be cut short. ({error})'


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    device = 'cpu' if map_location is None or callable(map_location) else str(map_location)
    try:
        return dict(load_file(path, device=device))
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path} cannot be read as safetensors: {error}') from error
