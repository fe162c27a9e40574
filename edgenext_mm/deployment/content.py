"""What an exported file holds: the network and the metadata that a runner needs.

The modules that write and run files build on this one; :mod:`.file_formats` imports them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from mmengine.config import Config
from torch import Tensor, nn

from ..errors import UserError
from ..version import __version__

#: The key under which a file stores its metadata.
KEY = 'edgenext_mm'
TASKS = {
    'mmpretrain': 'classification',
    'mmdet': 'detection',
    'mmseg': 'segmentation',
    'mmrotate': 'rotated_detection',
}
#: Dimensions of the (B, C, H, W) input that a file can leave open.
DIMENSIONS = {'batch': 0, 'height': 2, 'width': 3}


@dataclass(frozen=True)
class Metadata:
    """The description that is stored in a file, so that nothing else is needed to run it.

    Args:
        task: ``classification``, ``detection``, ``segmentation`` or ``rotated_detection``.
        classes: Class names.
        outputs: Names of the outputs, in order.
        structure: Nesting of the head's outputs, from
            :func:`~edgenext_mm.deployment.heads.structure_of`.
        shape: (H, W) of the input, in pixels.
        dynamic: The dimensions that may vary, from :data:`DIMENSIONS`.
        decoded: Whether the file of a detector returns boxes after NMS instead of raw outputs.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        preprocessing: Mean, standard deviation, channel order and resizing, for other runners.
        config: Config of the model, its preprocessor and its test pipeline.
        palette: Colours of the classes. Default: empty.
        version: Version of edgenext_mm that wrote the file. Default: this version.
    """

    task: str
    classes: tuple[str, ...]
    outputs: tuple[str, ...]
    structure: Any
    shape: tuple[int, int]
    dynamic: tuple[str, ...]
    decoded: bool
    precision: str
    preprocessing: dict[str, Any]
    config: dict[str, Any]
    palette: tuple = ()
    version: str = __version__

    def to_json(self) -> str:
        """Returns the metadata as JSON in which tuples are marked."""
        return json.dumps(_encode(asdict(self)))

    @classmethod
    def from_json(cls, text: str | None, path: Any) -> Metadata:
        """Reads the metadata of a file.

        Args:
            text: The stored JSON; None or empty if the file holds none.
            path: Path of the file, for the error message.

        Raises:
            UserError: If the file was not written by this version of the exporter.
        """
        if not text:
            raise UserError(
                f'{path} holds no metadata of edgenext_mm: it was not written by '
                'tools/deployment/export.py. Export the model with that tool.'
            )
        try:
            return cls(**_decode(json.loads(text)))
        except (TypeError, ValueError) as error:
            raise UserError(
                f'{path} holds metadata that this version cannot read ({error}). Export the model '
                'again with tools/deployment/export.py.'
            ) from error


class Content(NamedTuple):
    """The input of a file writer.

    Args:
        network: :class:`~.heads.Network` or :class:`~.boxes.BoxNetwork` in deploy form; the writer
            may change it.
        example: (B, C, H, W) images for tracing.
        metadata: Metadata to store.
        calibration: Normalised (1, C, H, W) images for INT8. Default: none.
        scheme: INT8 scheme, ``symmetric`` or ``asymmetric``. Default: ``symmetric``.
    """

    network: nn.Module
    example: Tensor
    metadata: Metadata
    calibration: Sequence[Tensor] = ()
    scheme: str = 'symmetric'


class Session(Protocol):
    """An opened file."""

    @property
    def metadata(self) -> Metadata:
        """The metadata of the file."""

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs in the order of the metadata.

        Args:
            x: (B, C, H, W) normalised images.
            extra: Values for the other inputs of the file by name, one row per image. Default:
                the values for images without padding and resizing.
        """


def require(package: str, purpose: str) -> None:
    """Checks that an optional package is installed.

    Args:
        package: Name of the package.
        purpose: What needs it, for the error message.

    Raises:
        UserError: If it is not installed; says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f'{purpose} needs the package {package}, which is not installed. Install it with '
            f'`pip install {package}`, or all formats with `pip install "edgenext_mm[all]"`.'
        )


def model_config(model: nn.Module) -> dict[str, Any]:
    """Returns the parts of a model's config that inference needs, without weight loading."""
    config = model.cfg
    dataset = config.test_dataloader.dataset
    kept = dict(
        default_scope=config.default_scope,
        custom_imports=_custom_imports(model),
        model=config.model.to_dict(),
        test_dataloader=dict(
            dataset=dict(type=dataset.type, pipeline=[dict(t) for t in dataset.pipeline])
        ),
    )
    if 'data_preprocessor' in config:
        kept['data_preprocessor'] = config.data_preprocessor.to_dict()
    return _without_init(kept)


def _custom_imports(model: nn.Module) -> dict[str, Any]:
    """Returns ``custom_imports`` for the modules that register the parts of a model."""
    own = model.cfg.get('custom_imports') or {}
    imports = own.get('imports') or []
    used = {type(part).__module__ for part in model.modules()}
    names = [
        'edgenext_mm',
        *([imports] if isinstance(imports, str) else imports),
        *sorted(name for name in used if name.startswith('edgenext_mm.')),
    ]
    allow_failed = own.get('allow_failed_imports', False)
    return dict(imports=list(dict.fromkeys(names)), allow_failed_imports=allow_failed)


def preprocessing_of(config: Config) -> dict[str, Any]:
    """Describes how an image becomes the input, for readers and runners in other languages."""
    preprocessor = config.get('data_preprocessor') or config.model.data_preprocessor
    pipeline = [dict(step) for step in config.test_dataloader.dataset.pipeline]
    to_rgb = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')
    return dict(
        loading=[step for step in pipeline if 'LoadImage' in str(step['type'])],
        channel_order='RGB' if to_rgb else 'BGR',
        **{key: preprocessor.get(key) for key in ('mean', 'std', 'pad_size_divisor', 'size')},
        steps=[s for s in pipeline if not any(word in str(s['type']) for word in ('Load', 'Pack'))],
    )


def _without_init(value: Any) -> Any:
    if isinstance(value, dict):
        skipped = ('init_cfg', 'pretrained')
        return {k: _without_init(v) for k, v in value.items() if k not in skipped}
    return type(value)(map(_without_init, value)) if isinstance(value, (list, tuple)) else value


def _encode(value: Any) -> Any:
    """Replaces what JSON cannot hold; registries find a class by its import path."""
    if isinstance(value, tuple):
        return {'tuple': [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {'tuple'}:
            return tuple(map(_decode, value['tuple']))
        return {k: _decode(v) for k, v in value.items()}
    return [_decode(v) for v in value] if isinstance(value, list) else value
