"""Checkpoint files, read as data: nothing that they bring along is run.

torch's weights-only unpickler makes objects of a few known classes. Objects of classes of other
libraries or of a training script become :class:`StandIn` objects: nothing is imported for them. A
file that asks for any other function or class is refused.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import fractions
import os
import pickle
import re
import sys
import time
import types
import uuid
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from ..errors import UserError


class StandIn:
    """An object of a class that is not imported, such as a member of a training script's enum.

    Args:
        *args: What the file gives to the class.
    """

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f'<{type(self).__qualname__}, not loaded>'


def _stand_in(name: str, kind: type) -> type:
    """A class for the objects of class ``name``; those derived from dict or list become one."""

    def new(cls: type, *args: Any) -> Any:
        return object.__new__(cls) if kind is object else kind()

    return type(name, (StandIn,), {'__new__': new})


def _attribute(owner: Any, name: str) -> Any:
    """What pickle writes as ``getattr``: how a logged history is summed up, members of enums."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    if isinstance(owner, type) and issubclass(owner, StandIn):
        if name in vars(owner):
            return vars(owner)[name]
        raise pickle.UnpicklingError(f'GLOBAL {owner.__name__}.{name} was not an allowed global')
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner}, {name!r})')


def _make_path(kind: type[PurePath]) -> Callable[..., PurePath]:
    """Makes paths of another system, too, where only pure ones can be made."""
    pure = PureWindowsPath if issubclass(kind, PureWindowsPath) else PurePosixPath
    return kind if isinstance(Path(), kind) else pure


def _to_list(items: Sequence[Any] = (), maxlen: int | None = None) -> list[Any]:
    return list(items)


def _to_dict(factory: Any = None) -> dict[Any, Any]:
    return {}


_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_DTYPES: list[np.dtype] = [np.dtype(code) for code in np.typecodes['All']]
#: What checkpoints hold besides tensors and plain values: logged histories, random states, and the
#: command line of a training. NumPy 1 and 2 and Python 3.12 and 3.13 name some of it differently;
#: files of all are read under all. torch fills no container but lists and dicts.
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
    *(time.struct_time, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(
        (_make_path(kind), f'{module}.{kind.__name__}')
        for kind in (PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath, WindowsPath)
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
#: Names for which a stand-in serves: classes of other libraries and of training scripts.
_FOREIGN_CLASS = re.compile(
    r'(?:\w+\.)+_*[A-Z]\w*|numpy\.random\.(?:_pickle|\w+\.__pyx_unpickle)_*\.?\w+'
)
#: Modules of Python, under their names of Python 2, too, which pickle writes.
_STANDARD = (sys.stdlib_module_names | IMPORT_MAPPING.keys()) - {'typing'}
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
    try:
        if os.environ.get(OPT_OUT) == '1':
            content = torch.load(path, map_location=map_location, weights_only=False)
        else:
            content = _load_data(path, map_location)
    except pickle.UnpicklingError as error:
        raise UserError(_explain(path, str(error))) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(_cut_short(path, error)) from error
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__}, not a checkpoint.')
    return dict(content)


def _load_data(path: Path, map_location: Any) -> Any:
    """As ``torch.load``, with stand-ins in the place of objects of unknown classes."""
    stand_ins: dict[str, type] = {}
    while True:
        known = [*SAFE_CLASSES, *((kind, name) for name, kind in stand_ins.items())]
        try:
            with torch.serialization.safe_globals(known):
                content = torch.load(path, map_location=map_location, weights_only=True)
            break
        except pickle.UnpicklingError as error:
            if not _add_stand_in(stand_ins, str(error)):
                raise
    if stand_ins:
        print_log(
            f'{path} holds objects of {", ".join(stand_ins)}, which are not loaded. Tensors and '
            'plain values are.',
            'current',
        )
    return content


def _add_stand_in(stand_ins: dict[str, type], message: str) -> bool:
    """Whether a stand-in helps against an error of torch's; if so, adds it."""
    if found := re.search(r'GLOBAL (\S+) was not an allowed', message):
        name, kind = found[1], object
        owner = name.rpartition('.')[0]
        foreign = _FOREIGN_CLASS.fullmatch(name) and name.partition('.')[0] not in _STANDARD
        if name in stand_ins or not (foreign or owner in stand_ins):
            return False
    elif found := re.search(r"Can only (SETITEM|append|extend).* got <class '(.+?)'>", message):
        # The class is derived from dict or list. What torch builds further is an OrderedDict.
        name, kind = found[2], OrderedDict if found[1] == 'SETITEM' else list
        name = name.removeprefix(f'{__name__}.')
        if name not in stand_ins:
            return False
    else:
        return False
    stand_ins[name] = _stand_in(name, kind)
    owner, _, attribute = name.rpartition('.')
    if owner in stand_ins:  # a nested class, or a member of an enum
        setattr(stand_ins[owner], attribute, stand_ins[name])
    return True


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
        reason = re.search(r'WeightsUnpickler error:\s*(.+)', message)
        return _cut_short(path, reason[1] if reason else message.strip().partition('\n')[0])
    return (
        f'{path} was not loaded: it calls for {found[1]}, which no checkpoint of weights needs. '
        'Unpickling can run any program that the file brings along. If you made the file yourself '
        f'or trust who did, set {OPT_OUT}=1 and try again.'
    )


def _cut_short(path: Path, error: Any) -> str:
    hint = ''
    if 'Unsupported operand' in str(error):
        hint = (
            ' Or it is written with pickle_protocol=4 or 5, which the safe reader of PyTorch does '
            f'not know: save it again with the default, or set {OPT_OUT}=1 if you trust its author.'
        )
    return f'{path} cannot be read as a PyTorch checkpoint; it may be cut short. ({error}){hint}'


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    device = 'cpu' if map_location is None or callable(map_location) else str(map_location)
    try:
        return dict(load_file(path, device=device))
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path} cannot be read as safetensors: {error}') from error
