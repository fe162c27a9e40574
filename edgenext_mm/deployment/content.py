"""What an exported file holds: the network and the metadata that a runner needs.

The modules that write and run files build on this one; :mod:`.file_formats` imports them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..runtime.boxes import Selection
from ..runtime.metadata import Metadata
from .heads import describe_scores, last_head
from .int8 import Int8Settings

TASKS = {
    'mmpretrain': 'classification',
    'mmdet': 'detection',
    'mmseg': 'segmentation',
    'mmrotate': 'rotated_detection',
}
#: Parts of the names of steps that load images, or do not change them.
LEFT_OUT = ('Load', 'Pack', 'ConvertBoxType')
#: Dimensions of the input that a file can leave open.
DIMENSIONS = ('batch', 'height', 'width')


class Content(NamedTuple):
    """The input of a file writer.

    Args:
        network: The network in deploy form, see :mod:`.heads`; the writer may change it.
        example: (B, C, H, W) images for tracing; (B, H, W, 3) uint8 with preprocessing.
        metadata: Metadata to store.
        selection: How the file selects boxes by NMS. Default: it does not.
        calibration: Inputs for one image each for INT8. Default: none.
        int8: How the network becomes INT8. Default: with symmetric ranges.
    """

    network: nn.Module
    example: Tensor
    metadata: Metadata
    selection: Selection | None = None
    calibration: Sequence[Tensor] = ()
    int8: Int8Settings = Int8Settings('symmetric')

    def save_calibration(self, folder: str | Path) -> list[Path]:
        """Writes the inputs for INT8 to a file for a converter.

        Args:
            folder: The folder of the file.

        Returns:
            Its path; nothing if there are no such inputs.
        """
        if self.metadata.precision != 'int8':
            return []
        path = Path(folder, 'calibration.npz')
        np.savez(path, *[image.numpy() for image in self.calibration])
        return [path]


class Session(Protocol):
    """An opened file."""

    @property
    def metadata(self) -> Metadata:
        """The metadata of the file."""

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs in the order of the metadata.

        Args:
            x: (B, C, H, W) normalised images; (B, H, W, 3) uint8 pixels with preprocessing.
            extra: Values for the other inputs of the file by name, one row per image. Default:
                the values for images without padding and resizing.
        """


def open_dimensions(example: Tensor, dynamic: Sequence[str]) -> dict[int, Any]:
    """Returns the open dimensions of an input, as torch.export takes them.

    Args:
        example: (B, C, H, W) normalised images, or (B, H, W, 3) uint8 pixels.
        dynamic: Dimensions that may vary, of :data:`DIMENSIONS`.
    """
    layout = ('batch', 'height', 'width', '')
    if example.is_floating_point():
        layout = ('batch', '', 'height', 'width')
    return {layout.index(name): torch.export.Dim.DYNAMIC for name in dynamic}


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
        pad_value=preprocessor.get('pad_value', preprocessor.get('pad_val', 0)),
        testing=preprocessor.get('test_cfg'),
        steps=[
            step for step in pipeline if not any(word in str(step['type']) for word in LEFT_OUT)
        ],
    )


def results_of(model: nn.Module, network: nn.Module) -> dict[str, Any]:
    """Describes how outputs become results, for runners without OpenMMLab.

    Args:
        model: The model.
        network: The network of the file.

    Returns:
        An empty dict if only OpenMMLab's head can do it.
    """
    for name in ('selection', 'final'):
        if description := getattr(network, name, None):
            return description._asdict()
    if hasattr(model, 'decode_head'):
        segmentor = last_head(model)
        if (model.test_cfg or {}).get('mode') == 'slide':
            return {}
        return dict(
            align_corners=segmentor.align_corners, threshold=getattr(segmentor, 'threshold', None)
        )
    return describe_scores(model) if hasattr(model, 'head') else {}


def _without_init(value: Any) -> Any:
    if isinstance(value, dict):
        skipped = ('init_cfg', 'pretrained')
        return {k: _without_init(v) for k, v in value.items() if k not in skipped}
    return type(value)(map(_without_init, value)) if isinstance(value, (list, tuple)) else value
