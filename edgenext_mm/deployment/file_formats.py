"""The table of file formats, and access to files by their suffix."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import UserError
from .content import Session, require

PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
#: INT8 ranges: centred at 0 without zero points, or as measured.
SCHEMES = ('symmetric', 'asymmetric')


class FileFormat(NamedTuple):
    """A file format.

    Args:
        suffix: Suffix of its files.
        packages: Packages that writing and running need.
        precisions: Precisions that it supports.
        schemes: INT8 schemes that it supports, the default first.
        decodes: Whether its files can hold NMS.
        dynamic: Whether the size of its images can vary.
        beside: Suffixes of other files that belong to a file.
    """

    suffix: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    schemes: tuple[str, ...] = ()
    decodes: bool = False
    dynamic: bool = True
    beside: tuple[str, ...] = ()

    def files(self, path: Path) -> list[Path]:
        """Returns all files that belong to a file, which comes last."""
        stem = path.name.removesuffix(self.suffix)
        return [path.with_name(stem + suffix) for suffix in (*self.beside, self.suffix)]

    def size(self, path: Path) -> int:
        """Returns the size of all files that belong to a file, in bytes."""
        parts = [part for file in self.files(path) for part in (file, *file.rglob('*'))]
        return sum(part.stat().st_size for part in parts if part.is_file())


FORMATS = {
    'onnx': FileFormat(
        '.onnx',
        ('onnx', 'onnxscript', 'onnxruntime'),
        ('fp32', 'fp16', 'int8'),
        ('symmetric', 'asymmetric'),
        decodes=True,
    ),
    'openvino': FileFormat(
        '.xml',
        ('openvino', 'onnx', 'onnxscript'),
        PRECISIONS,
        ('symmetric',),
        decodes=True,
        beside=('.bin',),
    ),
    'ncnn': FileFormat(
        '.ncnn.param',
        ('ncnn', 'pnnx'),
        ('fp32', 'fp16'),
        dynamic=False,
        beside=('.ncnn.bin', '.ncnn.json'),
    ),
    'coreml': FileFormat('.mlpackage', ('coremltools',), ('fp32', 'fp16'), dynamic=False),
    'executorch': FileFormat('.pte', (), ('fp32',), dynamic=False),
    'litert': FileFormat('.tflite', ('ai_edge_litert',), ('fp32',), dynamic=False),
    'torchscript': FileFormat('.torchscript', (), ('fp32', 'fp16', 'bf16')),
    'torch-export': FileFormat('.pt2', (), ('fp32', 'fp16', 'bf16')),
}


def find_format(name: str) -> FileFormat:
    """Returns a format by name.

    Raises:
        UserError: If there is no such format, or a package that it needs is missing.
    """
    if name not in FORMATS:
        raise UserError(f'Unknown format {name!r}. Choose from {", ".join(FORMATS)}.')
    for package in FORMATS[name].packages:
        require(package, f'The format {name}')
    return FORMATS[name]


def format_of(path: str | Path) -> str | None:
    """Returns the format of a file by its suffix; None for other suffixes."""
    name = Path(path).name
    return next((key for key, kind in FORMATS.items() if name.endswith(kind.suffix)), None)


def with_ending(path: str | Path, file_format: str) -> Path:
    """Returns the path with the suffix of a format.

    The suffix of another format is replaced. Anything else after a dot is part of the name, as in
    ``birds-v1.0``.
    """
    path, known = Path(path), format_of(path)
    stem = path.name.removesuffix(FORMATS[known].suffix) if known else path.name
    return path.with_name(stem + FORMATS[file_format].suffix)


def open_session(path: str | Path, threads: int | None = None) -> Session:
    """Opens an exported file.

    Args:
        path: Path of the file; its suffix determines the format.
        threads: Number of CPU threads. Default: the choice of the runtime.

    Raises:
        UserError: If the file does not exist, has an unknown suffix, is corrupt, or was not
            written by this package.
    """
    path = Path(path)
    name = format_of(path)
    if name is None:
        endings = ', '.join(kind.suffix for kind in FORMATS.values())
        raise UserError(f'{path} is not an exported file. Their names end with {endings}.')
    if not path.exists():
        raise UserError(f'The file {path} does not exist.')
    find_format(name)
    return backend(name).open_session(path, threads)


def backend(name: str) -> ModuleType:
    """Imports the module with ``write`` and ``open_session`` of a format.

    The packages that other formats need may be missing.
    """
    modules = {'torchscript': 'torch_files', 'torch-export': 'torch_files'}
    return importlib.import_module(f'.{modules.get(name, f"{name}_files")}', __package__)
