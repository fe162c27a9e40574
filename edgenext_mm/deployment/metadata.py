"""What a file says of itself, so that nothing else is needed to run it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mmengine.config import Config
from torch import nn

from ..errors import UserError
from ..version import __version__

#: Under which name a file keeps it.
KEY = 'edgenext_mm'
TASKS = {
    'mmpretrain': 'classification',
    'mmdet': 'detection',
    'mmseg': 'segmentation',
    'mmrotate': 'rotated_detection',
}


@dataclass(frozen=True)
class Metadata:
    """What a file is and wants.

    Args:
        task: ``classification``, ``detection``, ``segmentation`` or ``rotated_detection``.
        classes: Names.
        outputs: Names of the outputs, in order.
        structure: How the head nests them, see
            :func:`~edgenext_mm.deployment.heads.structure_of`.
        shape: (H, W) of the input that it was exported with.
        dynamic: Which of ``batch``, ``height`` and ``width`` may change.
        decoded: Whether a detector's file gives boxes after NMS instead of its raw heads.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        preprocessing: Mean, standard deviation, channel order and resizing, to read.
        config: Of the model, its preprocessing and its data set's pipeline.
        palette: Colours of the classes, (R, G, B) each. Default: none.
        version: Of edgenext_mm.
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
    version: str = field(default=__version__)

    def to_json(self) -> str:
        """As text; tuples stay tuples."""
        return json.dumps(_encode(asdict(self)))

    @classmethod
    def from_json(cls, text: str, path: Any) -> Metadata:
        """From text.

        Raises:
            UserError: If that is of something else.
        """
        try:
            return cls(**_decode(json.loads(text)))
        except (TypeError, ValueError) as error:
            raise UserError(
                f'{path} was not written by tools/deployment/export.py of this version: {error}'
            ) from error


def model_config(model: nn.Module) -> dict[str, Any]:
    """The parts of a model's config that inference needs, without anything that loads weights."""
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
    """The modules that register the parts of a model: the config's own, and those of ours."""
    own = model.cfg.get('custom_imports') or {}
    imports = own.get('imports') or []
    ours = {type(part).__module__ for part in model.modules()}
    names = [
        'edgenext_mm',
        *([imports] if isinstance(imports, str) else imports),
        *sorted(name for name in ours if name.startswith('edgenext_mm.')),
    ]
    return dict(
        imports=list(dict.fromkeys(names)),
        allow_failed_imports=own.get('allow_failed_imports', False),
    )


def preprocessing_of(config: Config) -> dict[str, Any]:
    """What happens to an image, for readers and for runners in other languages."""
    preprocessor = config.get('data_preprocessor') or config.model.data_preprocessor
    pipeline = [dict(t) for t in config.test_dataloader.dataset.pipeline]
    steps = [step for step in pipeline if 'Load' not in str(step['type'])]
    to_rgb = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')
    return dict(
        loading=[step for step in pipeline if 'LoadImage' in str(step['type'])],
        channel_order='RGB' if to_rgb else 'BGR',
        mean=preprocessor.get('mean'),
        std=preprocessor.get('std'),
        pad_size_divisor=preprocessor.get('pad_size_divisor'),
        size=preprocessor.get('size'),
        steps=[step for step in steps if 'Pack' not in str(step['type'])],
    )


def _without_init(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _without_init(v) for k, v in value.items() if k not in ('init_cfg', 'pretrained')
        }
    return type(value)(map(_without_init, value)) if isinstance(value, (list, tuple)) else value


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return {'tuple': [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    if isinstance(value, type):  # of a config that names classes; registries find them by path
        return f'{value.__module__}.{value.__qualname__}'
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {'tuple'}:
            return tuple(_decode(v) for v in value['tuple'])
        return {k: _decode(v) for k, v in value.items()}
    return [_decode(v) for v in value] if isinstance(value, list) else value
