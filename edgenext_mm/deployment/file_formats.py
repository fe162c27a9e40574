"""The formats of exported files, by the ending of their names."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..errors import UserError
from .metadata import Metadata


class Session(Protocol):
    """An opened file."""

    metadata: Metadata

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The outputs for (B, C, H, W) normalised images, in the order of the metadata.

        Args:
            x: The images.
            extra: Values for the other inputs that a file may have, by name, a row per image.
                Default: those of images without padding or resizing.
        """


class Content(NamedTuple):
    """What goes into a file.

    Args:
        network: Gives a tuple of tensors; may be changed.
        example: (B, 3, H, W) images that it is traced with.
        metadata: Goes along.
        calibration: Normalised images for INT8.
        scheme: Of INT8, one of :data:`SCHEMES`.
    """

    network: nn.Module
    example: Tensor
    metadata: Metadata
    calibration: Sequence[Tensor] = ()
    scheme: str = 'symmetric'


class FileFormat(NamedTuple):
    """A format.

    Args:
        suffix: Of its files.
        module: Which has ``write`` and ``open_session``.
        packages: What that needs.
        layout: In which the deploy form is written, the one measured to be the fastest.
        precisions: Which it can have.
        schemes: Which ranges INT8 can have, the default first.
    """

    suffix: str
    module: str
    packages: tuple[str, ...]
    layout: str
    precisions: tuple[str, ...]
    schemes: tuple[str, ...] = ()


FORMATS = {
    'onnx': FileFormat(
        '.onnx',
        'onnx_files',
        ('onnx', 'onnxscript', 'onnxruntime'),
        'channels_first',
        ('fp32', 'fp16', 'int8'),
        ('symmetric', 'asymmetric'),
    ),
    'openvino': FileFormat(
        '.xml',
        'openvino_files',
        ('openvino', 'onnx', 'onnxscript'),
        'channels_first_tokens',
        ('fp32', 'fp16', 'bf16', 'int8'),
        ('symmetric',),
    ),
    'torchscript': FileFormat(
        '.torchscript', 'torch_files', (), 'channels_last', ('fp32', 'fp16', 'bf16')
    ),
    'torch-export': FileFormat(
        '.pt2', 'torch_files', (), 'channels_last', ('fp32', 'fp16', 'bf16')
    ),
}
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
#: Ranges of INT8: around 0, with no zero points, or as measured.
SCHEMES = ('symmetric', 'asymmetric')
DIMENSIONS = {'batch': 0, 'height': 2, 'width': 3}


def find_format(name: str) -> FileFormat:
    """The format of that name, once what it needs is installed.

    Raises:
        UserError: If there is none, or a package is missing.
    """
    if name not in FORMATS:
        raise UserError(f'Unknown format {name!r}. Choose from {", ".join(FORMATS)}.')
    for package in FORMATS[name].packages:
        require(package, name)
    return FORMATS[name]


def format_of(path: str | Path) -> str | None:
    """The name of the format that a file's name tells; None where it tells none."""
    suffix = Path(path).suffix
    return next((name for name, kind in FORMATS.items() if kind.suffix == suffix), None)


def with_ending(path: str | Path, file_format: str) -> Path:
    """The path of a file of a format: its ending replaces that of another format, or is added.

    What else follows a dot is part of the name, as in ``birds-v1.0``.
    """
    path, suffix = Path(path), FORMATS[file_format].suffix
    return path.with_suffix(suffix) if format_of(path) else path.with_name(path.name + suffix)


def require(package: str, purpose: str) -> None:
    """Makes sure that a package is installed.

    Raises:
        UserError: If it is not; says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f'{purpose} needs the package {package}, which is not installed: '
            f'`pip install {package}`, or `pip install "edgenext_mm[deployment]"` for all formats.'
        )


def open_session(path: str | Path, threads: int | None = None) -> Session:
    """Opens an exported file.

    Args:
        path: Of the file; its ending tells the format.
        threads: CPU threads. Default: the runtime's own choice.

    Raises:
        UserError: If it is not there, of no known format, corrupt, or not ours.
    """
    path = Path(path)
    name = format_of(path)
    if name is None:
        endings = ', '.join(kind.suffix for kind in FORMATS.values())
        raise UserError(f'{path} is no exported file: its name ends with none of {endings}.')
    if not path.is_file():
        raise UserError(f'There is no file {path}.')
    module = importlib.import_module(f'.{find_format(name).module}', __package__)
    return module.open_session(path, threads)


def write(content: Content, path: Path) -> None:
    """Writes a file of the format that its name tells."""
    name = format_of(path)
    assert name is not None
    module = importlib.import_module(f'.{find_format(name).module}', __package__)
    module.write(content, path)
