"""From a trained model to a file that runs without its code."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .boxes import BoxNetwork
from .calibration import image_channels
from .file_formats import (
    DIMENSIONS,
    FORMATS,
    PRECISIONS,
    Content,
    FileFormat,
    find_format,
    with_ending,
    write,
)
from .form import switch_to_deploy
from .heads import Network, structure_of
from .metadata import TASKS, Metadata, model_config, preprocessing_of
from .verify import Deviation, check_deviations, compare, rehearse


def export(
    model: nn.Module,
    path: str | Path,
    file_format: str,
    shape: tuple[int, int],
    dynamic: Sequence[str] = (),
    precision: str = 'fp32',
    decode: bool = False,
    calibration: Sequence[Tensor] = (),
    images: Sequence[Tensor] = (),
    bound: float | None = None,
    int8_scheme: str | None = None,
) -> list[Deviation]:
    """Writes a model's deploy form to a file, compares it with the model, and keeps it if alike.

    Args:
        model: Of :func:`~edgenext_mm.load_model`; not changed.
        path: To write to; what is there is replaced once the new file has proved right.
        file_format: One of :data:`~edgenext_mm.deployment.file_formats.FORMATS`.
        shape: (H, W) of the input; an example where they may change.
        dynamic: Which of ``batch``, ``height`` and ``width`` may change. Default: none.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``. Default: ``fp32``.
        decode: Whether a detector's file gives boxes after NMS, not raw heads. Default: False.
        calibration: Normalised (1, 3, H, W) images for INT8.
        images: Normalised (1, 3, H, W) images to compare on. Default: none, no comparison.
        bound: Largest deviation that is accepted, relative to the largest value of an output.
            Default: that of the precision, see :data:`~edgenext_mm.deployment.verify.BOUNDS`.
        int8_scheme: ``symmetric`` or ``asymmetric`` ranges of INT8; TensorRT takes symmetric ones
            only. Default: the format's, see :data:`~edgenext_mm.deployment.file_formats.FORMATS`.

    Returns:
        The deviation of each output.

    Raises:
        UserError: If the model cannot be exported like that, or the file deviates too much.
    """
    kind = _check_request(model, file_format, shape, dynamic, precision, decode, calibration)
    scheme = _check_scheme(kind, precision, int8_scheme)
    network = (BoxNetwork if decode else Network)(model).eval()
    example = torch.randn(_example_size(network, shape, dynamic))
    nested = _run(network, example)
    metadata = Metadata(
        task=TASKS[model.cfg.default_scope],
        classes=tuple(model.dataset_meta.get('classes') or ()),
        palette=tuple(model.dataset_meta.get('palette') or ()),
        outputs=tuple(network.names(nested)),
        structure=structure_of(nested),
        shape=shape,
        dynamic=tuple(dynamic),
        decoded=decode,
        precision=precision,
        preprocessing=preprocessing_of(model.cfg),
        config=model_config(model),
    )
    if isinstance(network, Network):
        rehearse(network, metadata, images[0] if images else example[:1])
    size = None if {'height', 'width'} & set(dynamic) else shape
    deployed = type(network)(switch_to_deploy(model, kind.layout, size)).eval()
    path = with_ending(path, file_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.export-') as folder:
        temporary = Path(folder, path.name)
        with quiet(), _readable_errors(model, file_format):
            write(Content(deployed, example, metadata, calibration, scheme), temporary)
        deviations = compare(network, temporary, images, metadata)
        check_deviations(deviations, precision, bound)
        for file in sorted(Path(folder).iterdir(), key=lambda f: f.suffix == kind.suffix):
            file.chmod(0o644)
            file.replace(path.parent / file.name)
    return deviations


@torch.no_grad()
def _run(network: Network | BoxNetwork, example: Tensor) -> Any:
    """The outputs for an example, as the head nests them."""
    try:
        return network.nested(example)
    except UserError:
        raise
    except Exception as error:  # what upstream's code raises where more than features is needed
        head = network.model.get_submodule(network.head_name)
        raise UserError(
            f'This {type(network.model).__name__} cannot be exported for images of '
            f'{tuple(example.shape[-2:])}: its {type(head).__name__} does not run on the features '
            f'of an image alone ({type(error).__name__}: {error}). Give another --shape if it is '
            'the size, or choose a model with one head that does.'
        ) from error


@contextlib.contextmanager
def _readable_errors(model: nn.Module, file_format: str) -> Iterator[None]:
    """Reports what an exporter cannot convert as a mistake of the request."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of exporters, which have no base class in common
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = lines[0].rstrip('.') if lines else 'no reason given'
        raise UserError(
            f'This {type(model).__name__} cannot be written as {file_format}: '
            f'{type(cause).__name__}: {reason}. Operators that '
            'libraries compile themselves, such as deformable convolutions of mmcv, have no '
            'counterpart in a file. Choose another head or format.'
        ) from error


def _example_size(
    network: Network | BoxNetwork, shape: tuple[int, int], dynamic: Sequence[str]
) -> tuple[int, int, int, int]:
    """Of the images that a model is traced with: what may change must not be 1 at any level."""
    generator = getattr(network.model.get_submodule(network.head_name), 'prior_generator', None)
    stride = max((s[0] for s in generator.strides), default=32) if generator else 32
    height, width = shape
    if {'height', 'width'} & set(dynamic):
        height, width = max(height, 2 * stride), max(width, 3 * stride)
    return 2 if 'batch' in dynamic else 1, image_channels(network.model), height, width


def _check_request(
    model: nn.Module,
    file_format: str,
    shape: tuple[int, int],
    dynamic: Sequence[str],
    precision: str,
    decode: bool,
    calibration: Sequence[Tensor],
) -> FileFormat:
    kind = find_format(file_format)
    if unknown := set(dynamic) - set(DIMENSIONS):
        raise UserError(
            f'Unknown dimension {sorted(unknown)[0]!r}. Those of {", ".join(DIMENSIONS)} can vary.'
        )
    if precision not in kind.precisions:
        having = [name for name, f in FORMATS.items() if precision in f.precisions]
        raise UserError(
            f'A file of format {file_format} can be {", ".join(kind.precisions)}, not {precision}. '
            + (f'Formats for {precision}: {", ".join(having)}.' if having else '')
            + f' Precisions: {", ".join(PRECISIONS)}.' * (precision not in PRECISIONS)
        )
    if decode and file_format not in ('onnx', 'openvino'):
        raise UserError('Boxes after NMS can be had as onnx or openvino; others have raw heads.')
    if decode and precision == 'bf16':
        raise UserError('Boxes after NMS need more than the eight bits of BF16: use fp32 or fp16.')
    if precision == 'int8' and not calibration:
        raise UserError('INT8 needs images to calibrate on: --calib DIR.')
    if not hasattr(model, 'cfg'):
        raise UserError('Export takes a model of load_model(), which knows its config.')
    if model.cfg.get('default_scope') not in TASKS:
        raise UserError(
            f'The config of this model has the default_scope {model.cfg.get("default_scope")!r}. '
            f'Models of {", ".join(TASKS)} can be exported.'
        )
    _check_sliding(model, shape, dynamic)
    return kind


def _check_scheme(kind: FileFormat, precision: str, scheme: str | None) -> str:
    if scheme is None:
        return kind.schemes[0] if kind.schemes else ''
    if precision != 'int8' or scheme not in kind.schemes:
        raise UserError(
            f'{kind.suffix} files of precision {precision} have no int8_scheme {scheme!r}. '
            f'Schemes for --precision int8 in this format: {", ".join(kind.schemes) or "none"}.'
        )
    return scheme


def _check_sliding(model: nn.Module, shape: tuple[int, int], dynamic: Sequence[str]) -> None:
    settings = getattr(model, 'test_cfg', None) or {}
    if not hasattr(model, 'decode_head') or settings.get('mode') != 'slide':
        return
    crop = tuple(settings['crop_size'])
    fixed = [i for i, name in enumerate(('height', 'width')) if name not in dynamic]
    if any(shape[i] != crop[i] for i in fixed):
        raise UserError(
            f'This segmentor slides over images in crops of {crop[0]}x{crop[1]} pixels, its file '
            f'would take {shape[0]}x{shape[1]}. Export it with --shape {crop[0]} {crop[1]}.'
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk a lot; what goes wrong is raised."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'nncf', 'root')]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
