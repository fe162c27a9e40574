"""Export of a trained model to a file."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..runtime.formats import FORMATS, PARTS, PRECISIONS, with_ending
from ..runtime.metadata import Metadata
from .boxes import BoxNetwork, DecodedNetwork, read_selection
from .calibration import image_channels
from .content import (
    DIMENSIONS,
    TASKS,
    Content,
    model_config,
    preprocessing_of,
    results_of,
)
from .file_formats import backend, find_writer
from .final_boxes import (
    FixedNetwork,
    RegionNetwork,
    is_fixed,
    is_two_stage,
    with_standard_layers,
)
from .form import LAYOUT_BY_FORMAT, switch_to_deploy
from .heads import (
    LabelNetwork,
    Network,
    Preprocessed,
    ScoreNetwork,
    find_head,
    last_head,
    predicts_whole,
    structure_of,
    to_pixels,
)
from .int8 import KINDS, Int8Settings
from .verify import Deviation, check_deviations, check_half_range, compare, rehearse


def export(
    model: nn.Module,
    path: str | Path,
    file_format: str,
    shape: tuple[int, int],
    dynamic: Sequence[str] = (),
    precision: str = 'fp32',
    include: Sequence[str] = (),
    calibration: Sequence[Tensor] = (),
    images: Sequence[Tensor] = (),
    bound: float | None = None,
    int8: Int8Settings | None = None,
    layout: str | None = None,
) -> list[Deviation]:
    """Writes the deploy form of a model to a file and compares the file with the model.

    The file is only kept, and an existing file only replaced, if both agree.

    Args:
        model: A model from :func:`~edgenext_mm.load_model`; it is not changed.
        path: Path of the file; the suffix of the format is added if it is missing.
        file_format: A key of :data:`~edgenext_mm.runtime.FORMATS`.
        shape: (H, W) of the input in pixels; an example for dynamic dimensions.
        dynamic: Dimensions that may vary: ``batch``, ``height``, ``width``. Default: none.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``. Default: ``fp32``.
        include: What the file holds besides the network. Default: nothing.

            - ``preprocess``: images are (B, H, W, 3) uint8 red-green-blue pixels.
            - ``decode``: detectors return all boxes and scores, segmentors the class of each pixel,
              classifiers scores from 0 to 1, in Core ML with the names of the classes.
            - ``nms``: detectors return the boxes after NMS; needs ``decode``.
        calibration: Normalised (1, C, H, W) images for INT8. Default: none.
        images: Normalised (1, C, H, W) images for the comparison. Default: none, no comparison.
        bound: The largest accepted deviation, relative to the largest value of an output.
            Default: that of the precision, see :data:`~edgenext_mm.deployment.verify.BOUNDS`.
        int8: How the network becomes INT8. Default: the first scheme of the format.
        layout: One of :data:`~edgenext_mm.deployment.form.LAYOUTS`. Default: that of the format,
            see :data:`~edgenext_mm.deployment.form.LAYOUT_BY_FORMAT`.

    Returns:
        The deviation of each output.

    Raises:
        UserError: If the model cannot be exported as requested, or the file deviates too much.
    """
    network, content = prepare(
        model, file_format, shape, dynamic, precision, include, calibration, images, int8, layout
    )
    if precision == 'fp16':
        check_half_range(network, images)
    path = with_ending(path, file_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.export-') as folder:
        temporary = Path(folder, path.name)
        with quiet(), _readable_errors(model, file_format):
            backend(file_format).write(content, temporary)
        deviations = compare(network, temporary, images, content.metadata)
        check_deviations(deviations, precision, bound)
        for file in FORMATS[file_format].files(temporary):
            _move(file, path.parent / file.name)
    return deviations


def prepare(
    model: nn.Module,
    file_format: str,
    shape: tuple[int, int],
    dynamic: Sequence[str] = (),
    precision: str = 'fp32',
    include: Sequence[str] = (),
    calibration: Sequence[Tensor] = (),
    images: Sequence[Tensor] = (),
    int8: Int8Settings | None = None,
    layout: str | None = None,
) -> tuple[Network, Content]:
    """Checks a request, and returns the network in its first form and what the file will hold.

    The arguments and errors are those of :func:`export`.
    """
    find_writer(file_format)
    _check_final(model, file_format, dynamic, precision, include)
    include = tuple(part for part in PARTS if part in _check_parts(model, file_format, include))
    _check_request(model, file_format, shape, dynamic, precision, include)
    int8 = _check_int8(file_format, precision, calibration, int8 or Int8Settings())
    network = _network_type(model, include)(model).eval()
    example = torch.randn(_example_size(network, shape, dynamic))
    nested = _run(network, example)
    if isinstance(network, DecodedNetwork) and not {'height', 'width'} & set(dynamic):
        network.count_boxes(example)
    metadata = Metadata(
        task=TASKS[model.cfg.default_scope],
        classes=tuple(model.dataset_meta.get('classes') or ()),
        palette=tuple(model.dataset_meta.get('palette') or ()),
        outputs=tuple(network.names(nested)),
        structure=structure_of(nested),
        shape=shape,
        dynamic=tuple(dynamic),
        include=include,
        precision=precision,
        preprocessing=preprocessing_of(model.cfg),
        results=results_of(model, network),
        config=model_config(model),
    )
    rehearse(network, metadata, images[0] if images else example[:1])
    size = None if {'height', 'width'} & set(dynamic) else shape
    deployed = switch_to_deploy(model, layout or LAYOUT_BY_FORMAT[file_format], size)
    if isinstance(network, RegionNetwork):
        with_standard_layers(deployed)
    return network, _content(type(network)(deployed).eval(), example, metadata, calibration, int8)


def _network_type(model: nn.Module, include: Sequence[str]) -> type[Network]:
    """Returns the class of the network that a file holds."""
    if is_two_stage(model):
        return RegionNetwork
    if is_fixed(model):
        return FixedNetwork
    if 'nms' in include:
        return BoxNetwork
    if 'decode' not in include:
        return Network
    kinds = dict(head=ScoreNetwork, decode_head=LabelNetwork, bbox_head=DecodedNetwork)
    return kinds[find_head(model)]


def _content(
    network: Network,
    example: Tensor,
    metadata: Metadata,
    calibration: Sequence[Tensor],
    int8: Int8Settings,
) -> Content:
    """Returns the input of the writer; with preprocessing, all images become pixels."""
    selection = network.selection if isinstance(network, BoxNetwork) else None
    content = Content(network, example, metadata, selection, calibration, int8)
    if 'preprocess' not in metadata.include:
        return content
    description = metadata.preprocessing
    return content._replace(
        network=Preprocessed(network, description).eval(),
        example=to_pixels(example, description),
        calibration=[to_pixels(image, description) for image in calibration],
    )


def _move(source: Path, target: Path) -> None:
    """Moves a file or folder in place of an existing one."""
    if source.is_dir() and target.exists():  # unlike a file, a folder cannot be replaced
        target.rename(source.with_suffix('.old'))
    elif source.is_file():
        source.chmod(0o644)
    source.replace(target)


@torch.no_grad()
def _run(network: Network, example: Tensor) -> Any:
    """Returns the outputs for an example, as the head nests them."""
    try:
        return network.nested(example)
    except UserError:
        raise
    except Exception as error:  # heads that need more than features fail in many ways
        head = network.model.get_submodule(network.head_name)
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        raise UserError(
            f'This {type(network.model).__name__} cannot be exported for images of '
            f'{tuple(example.shape[-2:])}: its {type(head).__name__} does not run on the features '
            f'of an image alone ({type(error).__name__}: {error}). Give another --shape if the '
            'size is the reason, or choose a model with one head that does.'
        ) from error


@contextlib.contextmanager
def _readable_errors(model: nn.Module, file_format: str) -> Iterator[None]:
    """Turns the errors of exporters into a :class:`UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the errors of exporters have no common base class
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = lines[0].rstrip('.') if lines else 'no reason given'
        raise UserError(
            f'This {type(model).__name__} cannot be written as {file_format}: '
            f'{type(cause).__name__}: {reason}. Files cannot hold custom operators, such as the '
            'deformable convolutions of mmcv. Choose another head or format.'
        ) from error


def _example_size(
    network: Network, shape: tuple[int, int], dynamic: Sequence[str]
) -> tuple[int, int, int, int]:
    """Returns the size of the images for tracing; dynamic dimensions must not be 1 at any level."""
    generator = getattr(network.model.get_submodule(network.head_name), 'prior_generator', None)
    stride = max((s[0] for s in generator.strides), default=32) if generator else 32
    height, width = shape
    if {'height', 'width'} & set(dynamic):
        height, width = max(height, 2 * stride), max(width, 3 * stride)
    return 2 if 'batch' in dynamic else 1, image_channels(network.model), height, width


def _check_final(
    model: nn.Module,
    file_format: str,
    dynamic: Sequence[str],
    precision: str,
    parts: Collection[str],
) -> None:
    """Checks a request for a detector whose file returns final boxes."""
    if not (is_two_stage(model) or is_fixed(model)):
        return
    name = type(model).__name__
    formats = [key for key, kind in FORMATS.items() if 'nms' in kind.parts]
    if file_format not in formats:
        raise UserError(
            f'A {name} cannot be exported as {file_format}: the complete detector, with its '
            f'{type(model.get_submodule(find_head(model))).__name__}, becomes part of the file. '
            f'Use --format {" or ".join(formats)}, or a single-stage detector such as SSDLite, GFL '
            'or RTMDet.'
        )
    if is_two_stage(model) and 'nms' not in parts:
        raise UserError(
            f'A {name} runs NMS between its stages, so its files include it: use --include nms.'
        )
    if is_fixed(model) and ('nms' in parts or 'decode' not in parts):
        raise UserError(
            f'A {name} returns final boxes without NMS, so its files do: use --include decode.'
        )
    if dynamic:
        raise UserError(
            f'Files of a {name} have a fixed size and take one image: --dynamic is not possible.'
        )
    if precision not in ('fp32', 'fp16') or (precision, file_format) == ('fp16', 'onnx'):
        raise UserError(
            f'The boxes of a {name} need fp32: use --precision fp32, or fp16 weights with --format '
            'openvino.'
        )


def default_parts(model: nn.Module) -> tuple[str, ...]:
    """Returns what a file should include besides the network: decoding for detectors.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """
    if is_two_stage(model):
        return ('nms',)
    if not hasattr(model, 'bbox_head'):
        return ()
    if not is_fixed(model):
        read_selection(model)
    return ('decode',)


def _check_request(
    model: nn.Module,
    file_format: str,
    shape: tuple[int, int],
    dynamic: Sequence[str],
    precision: str,
    include: Sequence[str],
) -> None:
    """Checks a request for an export."""
    kind = find_writer(file_format)
    _check_dynamic(file_format, dynamic)
    if precision not in kind.precisions:
        others = [name for name, f in FORMATS.items() if precision in f.precisions]
        raise UserError(
            f'The format {file_format} supports {", ".join(kind.precisions)}, not {precision}. '
            + (f'Formats for {precision}: {", ".join(others)}.' if others else '')
            + f' Precisions: {", ".join(PRECISIONS)}.' * (precision not in PRECISIONS)
        )
    if 'decode' in include and precision == 'bf16' and hasattr(model, 'bbox_head'):
        raise UserError('Coordinates of boxes need more than the eight bits of BF16: use fp16.')
    if not hasattr(model, 'cfg'):
        raise UserError('This model has no config. Export a model from load_model().')
    if model.cfg.get('default_scope') not in TASKS:
        raise UserError(
            f'The config of this model has the default_scope {model.cfg.get("default_scope")!r}. '
            f'Models of {", ".join(TASKS)} can be exported.'
        )
    settings = getattr(model, 'test_cfg', None) or {}
    if dynamic and hasattr(model, 'decode_head') and predicts_whole(model):
        raise UserError(
            f'Files of a {type(model).__name__} with a {type(last_head(model)).__name__} have a '
            'fixed size and take one image: --dynamic is not possible.'
        )
    if hasattr(model, 'decode_head') and settings.get('mode') == 'slide':
        crop = tuple(settings['crop_size'])
        fixed = [i for i, name in enumerate(('height', 'width')) if name not in dynamic]
        if any(shape[i] != crop[i] for i in fixed):
            raise UserError(
                f'This segmentor slides over images in crops of {crop[0]}x{crop[1]} pixels, but '
                f'its file would take {shape[0]}x{shape[1]}. Export it with --shape '
                f'{crop[0]} {crop[1]}.'
            )


def _check_int8(
    file_format: str, precision: str, calibration: Sequence[Tensor], int8: Int8Settings
) -> Int8Settings:
    """Checks the settings for INT8, and returns them with a scheme."""
    kind, scheme = FORMATS[file_format], int8.scheme
    if scheme is not None and (precision != 'int8' or scheme not in kind.schemes):
        raise UserError(
            f'{kind.suffix} files of precision {precision} have no int8_scheme {scheme!r}. '
            f'Schemes for --precision int8 in this format: {", ".join(kind.schemes) or "none"}.'
        )
    if precision != 'int8':
        return int8
    if not calibration and not kind.weights_only:
        raise UserError('INT8 needs images for calibration. Give a folder of them: --calib DIR.')
    if unknown := set(int8.keep_float) - set(KINDS):
        raise UserError(
            f'Unknown kind of operators {sorted(unknown)[0]!r}. Choose from {", ".join(KINDS)}.'
        )
    if file_format != 'onnx' and (int8.keep_float or int8.ranges != 'minmax'):
        raise UserError(
            f'Files of the format {file_format} have a fixed choice of INT8 operators and ranges: '
            '--keep-float and --ranges are for onnx.'
        )
    return int8._replace(scheme=scheme or next(iter(kind.schemes)))


def _check_parts(model: nn.Module, file_format: str, include: Sequence[str]) -> set[str]:
    """Returns what a file shall hold besides the network."""
    parts = set(include)
    if unknown := parts - set(PARTS):
        raise UserError(
            f'A file cannot include {sorted(unknown)[0]!r}. Choose from {", ".join(PARTS)}.'
        )
    for part in (part for part in PARTS if part in parts):
        if part not in find_writer(file_format).parts:
            others = [name for name, f in FORMATS.items() if part in f.parts]
            raise UserError(
                f'Files of the format {file_format} cannot include {part!r}. Formats that can: '
                f'{", ".join(others)}.'
            )
    if 'nms' in parts and find_head(model) not in ('bbox_head', 'roi_head'):
        raise UserError('Only files of detectors can include NMS.')
    if 'preprocess' in parts:
        description = preprocessing_of(model.cfg)
        loading = description['loading'][-1] if description['loading'] else {}
        if image_channels(model) != 3 or loading.get('color_type', 'color') != 'color':
            raise UserError('Preprocessing can be included for images of three colours.')
        if not description['mean'] or not description['std']:
            raise UserError('This model does not normalise images: there is no preprocessing.')
    return parts | ({'decode'} if 'nms' in parts else set())


def _check_dynamic(file_format: str, dynamic: Sequence[str]) -> None:
    """Refuses dimensions that cannot vary."""
    if unknown := set(dynamic) - set(DIMENSIONS):
        raise UserError(
            f'Unknown dimension {sorted(unknown)[0]!r}. Choose from {", ".join(DIMENSIONS)}.'
        )
    if dynamic and not FORMATS[file_format].dynamic:
        others = [name for name, f in FORMATS.items() if f.dynamic]
        raise UserError(
            f'Files of the format {file_format} have a fixed size and take one image. Formats for '
            f'--dynamic: {", ".join(others)}.'
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the messages of exporters; errors are still raised."""
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
