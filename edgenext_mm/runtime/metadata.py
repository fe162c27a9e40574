"""The description that every exported file holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UserError
from ..version import __version__

#: The key under which a file stores its metadata.
KEY = 'edgenext_mm'


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
        dynamic: The dimensions that may vary, of ``batch``, ``height`` and ``width``.
        include: What the file holds besides the network: ``preprocess``, ``decode``, ``nms``.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        preprocessing: Mean, standard deviation, channel order and resizing.
        results: How outputs become results: the activation of scores, the selection of boxes.
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
    include: tuple[str, ...]
    precision: str
    preprocessing: dict[str, Any]
    results: dict[str, Any]
    config: dict[str, Any] = field(repr=False)
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
                f'{path} holds metadata that this version ({__version__}) cannot read ({error}). '
                'Export the model again with tools/deployment/export.py of this version.'
            ) from error


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
