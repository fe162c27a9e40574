"""Reads checkpoint files without running code in them.

torch's weights-only unpickler creates objects of a few known classes. Objects of unknown classes,
from other libraries or training scripts, become :class:`StandIn` objects without importing
anything. A file that needs any other function or class is refused.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pickle
import re
import sys
import types
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from ..errors import UserError


class StandIn:
    """Placeholder for an object of a class that is not imported, such as an enum of a script.

    Args:
        args: Arguments of the class in the file.
    """

    #: OrderedDict or list if the class is derived from dict or list, object otherwise.
    kind: type = object

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls) if cls.kind is object else cls.kind()

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _attribute(owner: Any, name: str) -> Any:
    """Replaces ``getattr``, which pickle uses for methods of HistoryBuffer and members of enums."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    if isinstance(owner, type) and issubclass(owner, StandIn):
        if name in vars(owner):
            return vars(owner)[name]
        raise pickle.UnpicklingError(f'GLOBAL {owner.__name__}.{name} was not an allowed global')
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner}, {name!r})')


def _to_list(items: Sequence[Any] = (), maxlen: int | None = None) -> list[Any]:
    return list(items)


def _to_dict(factory: Any = None) -> dict[Any, Any]:
    return {}


_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_DTYPES: list[np.dtype] = [np.dtype(code) for code in np.typecodes['All']]
#: Classes in checkpoints besides tensors and plain values: logged histories, random states and
#: command-line arguments. Some have other names in NumPy 1 or Python 3.13. The unpickler of torch
#: only fills lists and dicts, so that other containers become one of these.
SAFE_CLASSES: list[Any] = [
    HistoryBuffer,
    (_attribute, 'builtins.getattr'),
    torch.torch_version.TorchVersion,
    argparse.Namespace,
    types.SimpleNamespace,
    (_to_list, 'collections.deque'),
    (_to_dict, 'collections.defaultdict'),
    *(bool, bytes, dict, float, frozenset, int, list, range, slice, str, tuple),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(
        (PureWindowsPath if 'Windows' in name else PurePosixPath, f'{module}.{name}')
        for name in ('PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath')
        for module in ('pathlib', 'pathlib._local')
    ),
    np.ndarray,
    np.dtype,
    *(
        (function, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for function, name in ((_RECONSTRUCT, '_reconstruct'), (_SCALAR, 'scalar'))
    ),
    *{type(dtype) for dtype in _DTYPES},
    *((d.type, f'numpy.{name}') for d in _DTYPES for name in {d.type.__name__, f'{d.name}_'}),
]
#: Names that may become stand-ins: classes of other libraries and of training scripts.
_FOREIGN_CLASS = re.compile(
    r'(?:\w+\.)+_*[A-Z]\w*|numpy\.random\.(?:_pickle|\w+\.__pyx_unpickle)_*\.?\w+'
)
#: Modules of the standard library, with the names of Python 2, which pickle writes.
_STANDARD = (sys.stdlib_module_names | IMPORT_MAPPING.keys()) - {'typing'}
#: Environment variable: 1 unpickles files without restrictions.
OPT_OUT = 'EDGENEXT_MM_UNSAFE_LOAD'


def read_file(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Reads a ``.pth`` or ``.safetensors`` file.

    Args:
        path: Path of the file.
        map_location: Device of the tensors, as for ``torch.load``. Default: the CPU.

    Raises:
        UserError: If the file is not a checkpoint, is damaged, or needs a function or class that
            is not allowed.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    try:
        if os.environ.get(OPT_OUT) == '1':
            content = torch.load(path, map_location=map_location, weights_only=False)
        else:
            content = _load_data(path, map_location)
    except (
        pickle.UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise UserError(_explain(path, str(error))) from error
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__}, not a checkpoint.')
    return dict(content)


def _load_data(path: Path, map_location: Any) -> Any:
    """Calls ``torch.load``, adding stand-ins for unknown classes until it succeeds."""
    stand_ins: dict[str, type] = {}
    while True:
        known = [*SAFE_CLASSES, *((kind, name) for name, kind in stand_ins.items())]
        try:
            with torch.serialization.safe_globals(known):
                content = torch.load(path, map_location=map_location, weights_only=True)
            break
        except (pickle.UnpicklingError, TypeError) as error:
            if not _add_stand_in(stand_ins, str(error)):
                raise
    if stand_ins:
        print_log(
            f'Objects of {", ".join(stand_ins)} in {path} are not loaded. This does not affect '
            'tensors and plain values.',
            'current',
        )
    return content


def _add_stand_in(stand_ins: dict[str, type], message: str) -> bool:
    """Adds the stand-in that avoids an error of torch, and returns whether there is one."""
    if found := re.search(r'GLOBAL (\S+) was not an allowed', message):
        name, kind = found[1], object
        owner = name.rpartition('.')[0]
        foreign = _FOREIGN_CLASS.fullmatch(name) and name.partition('.')[0] not in _STANDARD
        if name in stand_ins or not (foreign or owner in stand_ins):
            return False
    elif found := re.search(r"Can only (SETITEM|append|extend).* got <class '(.+?)'>", message):
        # The class is derived from dict or list. torch only builds dicts that are OrderedDicts.
        name, kind = found[2], OrderedDict if found[1] == 'SETITEM' else list
        name = name.removeprefix(f'{__name__}.')
        if name not in stand_ins:
            return False
    elif found := re.search(r"'(.+?)' object does not support item assignment", message):
        name, kind = found[1], OrderedDict  # the same, as a TypeError of torch 2.6
        if name not in stand_ins:
            return False
    else:
        return False
    stand_ins[name] = type(name, (StandIn,), {'kind': kind})
    owner, _, attribute = name.rpartition('.')
    if owner in stand_ins:  # a nested class or a member of an enum
        setattr(stand_ins[owner], attribute, stand_ins[name])
    return True


def _explain(path: Path, message: str) -> str:
    if found := re.search(r'GLOBAL (.+?)(?: was not| whose module|\n|$)', message):
        return (
            f'{path} was not loaded: it needs {found[1]}, which is not allowed, because unpickling '
            f'can run any code in the file. If you trust the file, set {OPT_OUT}=1 and try again.'
        )
    if 'Unsupported operand 149' in message:  # FRAME, which begins files of these protocols
        return (
            f'{path} cannot be read as a PyTorch checkpoint. It was probably saved with '
            'pickle_protocol=4 or 5, which torch.load(weights_only=True) does not support: save it '
            f'with the default, or set {OPT_OUT}=1 if you trust the file.'
        )
    reason = re.search(r'WeightsUnpickler error:\s*(.+)', message)
    first_line = reason[1] if reason else message.strip().partition('\n')[0] or 'it has no content'
    return (
        f'{path} cannot be read as a PyTorch checkpoint: {first_line}. It may be cut short, or a '
        'web page with an error or a login.'
    )


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    device = 'cpu' if map_location is None or callable(map_location) else str(map_location)
    try:
        return dict(load_file(path, device=device))
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path} cannot be read as safetensors: {error}') from error
