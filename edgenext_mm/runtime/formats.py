"""The table of file formats."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
#: INT8 ranges: centred at 0 without zero points, or as measured.
SCHEMES = ('symmetric', 'asymmetric')
#: How INT8 ranges follow from activations: all values, all but the farthest 0.001%, or the range
#: that keeps most information.
RANGES = ('minmax', 'percentile', 'entropy')
#: What a file can hold besides the network.
PARTS = ('preprocess', 'decode', 'nms')


class FileFormat(NamedTuple):
    """A file format.

    Args:
        suffix: Suffix of its files.
        runs: Package that runs its files; None for PyTorch or an environment of its own.
        writes: Packages that write its files, besides ``runs``.
        precisions: Precisions that it supports.
        schemes: INT8 schemes that it supports, the default first.
        parts: What its files can hold besides the network, of :data:`PARTS`.
        dynamic: Whether the size of its images can vary.
        beside: Suffixes of other files that belong to a file.
        weights_only: Whether INT8 files hold INT8 weights and compute in floating point, which
            needs no images for calibration.
    """

    suffix: str
    runs: str | None
    writes: tuple[str, ...]
    precisions: tuple[str, ...]
    schemes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ('preprocess', 'decode')
    dynamic: bool = True
    beside: tuple[str, ...] = ()
    weights_only: bool = False

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
        'onnxruntime',
        ('onnx', 'onnxscript'),
        ('fp32', 'fp16', 'int8'),
        ('symmetric', 'asymmetric'),
        parts=PARTS,
    ),
    'openvino': FileFormat(
        '.xml',
        'openvino',
        ('onnx', 'onnxscript'),
        PRECISIONS,
        ('symmetric',),
        parts=PARTS,
        beside=('.bin',),
    ),
    'ncnn': FileFormat(
        '.ncnn.param',
        'ncnn',
        ('pnnx',),
        ('fp32', 'fp16'),
        parts=('decode',),
        dynamic=False,
        beside=('.ncnn.bin', '.ncnn.json'),
    ),
    'coreml': FileFormat(
        '.mlpackage',
        None,
        ('coremltools',),
        ('fp32', 'fp16', 'int8'),
        ('symmetric',),
        dynamic=False,
        weights_only=True,
    ),
    'executorch': FileFormat('.pte', None, (), ('fp32', 'int8'), ('asymmetric',), dynamic=False),
    'litert': FileFormat(
        '.tflite', 'ai_edge_litert', (), ('fp32', 'int8'), ('asymmetric',), dynamic=False
    ),
    'torchscript': FileFormat('.torchscript', None, (), ('fp32', 'fp16', 'bf16')),
    'torch-export': FileFormat('.pt2', None, (), ('fp32', 'fp16', 'bf16')),
}


def find_format(name: str) -> FileFormat:
    """Returns a format by name.

    Raises:
        UserError: If there is no such format.
    """
    if name not in FORMATS:
        raise UserError(f'Unknown format {name!r}. Choose from {", ".join(FORMATS)}.')
    return FORMATS[name]


def format_of(path: str | Path) -> str | None:
    """Returns the format of a file by its suffix; None for other suffixes."""
    name = Path(path).name
    return next((key for key, kind in FORMATS.items() if name.endswith(kind.suffix)), None)


def format_of_file(path: str | Path) -> str:
    """Returns the format of a file that exists.

    Raises:
        UserError: If the file does not exist, or has an unknown suffix.
    """
    name = format_of(path)
    if name is None:
        endings = ', '.join(kind.suffix for kind in FORMATS.values())
        raise UserError(f'{path} is not an exported file. Their names end with {endings}.')
    if not Path(path).exists():
        raise UserError(f'The file {path} does not exist.')
    return name


def with_ending(path: str | Path, file_format: str) -> Path:
    """Returns the path with the suffix of a format.

    The suffix of another format is replaced. Anything else after a dot is part of the name, as in
    ``birds-v1.0``.
    """
    path, known = Path(path), format_of(path)
    stem = path.name.removesuffix(FORMATS[known].suffix) if known else path.name
    return path.with_name(stem + FORMATS[file_format].suffix)


_DISTRIBUTIONS = {'cv2': 'opencv-python-headless'}


def require(package: str, purpose: str) -> None:
    """Checks that an optional package is installed.

    Args:
        package: Name of the package.
        purpose: What needs it, for the error message.

    Raises:
        UserError: If it is not installed; says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        name = _DISTRIBUTIONS.get(package, package.replace('_', '-'))
        raise UserError(
            f'{purpose} needs the package {name}, which is not installed. Install it with '
            f'`pip install {name}`.'
        )
