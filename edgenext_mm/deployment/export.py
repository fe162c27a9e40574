"""From a trained model to a file that runs without its code."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from .form import switch_to_deploy
from .formats import (
    DIMENSIONS,
    FORMATS,
    PRECISIONS,
    Content,
    FileFormat,
    find_format,
    with_ending,
    write,
)
from .heads import BoxNetwork, Network
from .images import image_channels
from .metadata import TASKS, Metadata, model_config, preprocessing_of
from .verify import Deviation, check_deviations, compare


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
) -> list[Deviation]:
    """Writes a model's deploy form to a file, compares it with the model, and keeps it if alike.

    Args:
        model: Of :func:`~edgenext_mm.load_model`; not changed.
        path: To write to; what is there is replaced once the new file has proved right.
        file_format: One of :data:`~edgenext_mm.deployment.formats.FORMATS`.
        shape: (H, W) of the input; an example where they may change.
        dynamic: Which of ``batch``, ``height`` and ``width`` may change. Default: none.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``. Default: ``fp32``.
        decode: Whether a detector's file gives boxes after NMS, not raw heads. Default: False.
        calibration: Normalised (1, 3, H, W) images for INT8.
        images: Normalised (1, 3, H, W) images to compare on. Default: none, no comparison.
        bound: Largest deviation that is accepted, relative to the largest value of an output.
            Default: that of the precision, see :data:`~edgenext_mm.deployment.verify.BOUNDS`.

    Returns:
        The deviation of each output.

    Raises:
        UserError: If the model cannot be exported like that, or the file deviates too much.
    """
    kind = _check_request(model, file_format, dynamic, precision, decode, calibration)
    network = (BoxNetwork if decode else Network)(model).eval()
    with torch.no_grad():
        example = torch.randn(_example_size(network, shape, dynamic))
        try:
            names = network.names(network(example))
        except RuntimeError as error:
            raise UserError(f'The model cannot take images of {shape}: {error}') from error
    metadata = Metadata(
        task=TASKS[model.cfg.default_scope],
        classes=tuple(model.dataset_meta.get('classes') or ()),
        palette=tuple(model.dataset_meta.get('palette') or ()),
        outputs=tuple(names),
        shape=shape,
        dynamic=tuple(dynamic),
        decoded=decode,
        precision=precision,
        preprocessing=preprocessing_of(model.cfg),
        config=model_config(model.cfg),
    )
    size = None if {'height', 'width'} & set(dynamic) else shape
    deployed = type(network)(switch_to_deploy(model, kind.layout, size)).eval()
    path = with_ending(path, file_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.export-') as folder:
        temporary = Path(folder, path.name)
        with quiet():
            write(Content(deployed, example, metadata, calibration), temporary)
        deviations = compare(network, temporary, images, metadata)
        check_deviations(deviations, precision, bound)
        for file in sorted(Path(folder).iterdir(), key=lambda f: f.suffix == kind.suffix):
            file.chmod(0o644)
            file.replace(path.parent / file.name)
    return deviations


def _example_size(
    network: Network, shape: tuple[int, int], dynamic: Sequence[str]
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
    if precision == 'int8' and not calibration:
        raise UserError('INT8 needs images to calibrate on: --calib DIR.')
    if not hasattr(model, 'cfg'):
        raise UserError('Export takes a model of load_model(), which knows its config.')
    return kind


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
