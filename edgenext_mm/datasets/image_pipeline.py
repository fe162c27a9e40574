"""The test pipeline of a config, for images from any source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from ..errors import UserError, caused_by
from ..registry import type_name
from ..runtime.sources import ImageSource
from .images import ImageReader


class ImagePipeline:
    """The test pipeline of a config, for images from any source.

    Annotations are not loaded. The loading step reads local files, whatever storage the
    ``backend_args`` of the data set name.

    Args:
        config: A config with a ``test_dataloader``.
    """

    def __init__(self, config: Config) -> None:
        init_default_scope(config.get('default_scope', 'mmengine'))
        steps = [
            _for_local_files(step)
            for step in config.test_dataloader.dataset.pipeline
            if not _loads_annotations(_type_name(step))
        ]
        loading = [i for i, step in enumerate(steps) if _type_name(step).startswith('Load')]
        count = loading[0] + 1 if loading else 0  # data sets may hold images in memory
        built = Compose(steps).transforms
        self._reader = ImageReader(*built[:count])
        self.transforms = built[count:]

    def __call__(self, source: ImageSource) -> dict[str, Any]:
        """Returns the model input for one image: ``inputs``, (C, H, W), and ``data_samples``.

        Raises:
            UserError: If the image cannot be read, or a step of the pipeline fails.
        """
        data: Any = self._reader(source)
        for step in self.transforms:
            try:
                data = step(data)
                if data is None:
                    raise ValueError('it returned None')
            except Exception as error:  # transforms raise anything
                name = type(step).__name__
                raise caused_by(
                    error, f'The step {name} of the test pipeline fails for {source_name(source)}'
                ) from error
        return data

    def read(self, source: ImageSource) -> np.ndarray:
        """Returns the pixels of one image from the loading step.

        Raises:
            UserError: If the image cannot be read.
        """
        return self._reader(source)['img']


def _type_name(step: Any) -> str:
    """Returns the name of the class of a step, which may be a config."""
    return type_name(step['type'] if isinstance(step, dict) else type(step))


def _loads_annotations(name: str) -> bool:
    words = ('Annotation', 'Proposal', 'Segmentation')
    return name.startswith('Load') and any(word in name for word in words)


def _for_local_files(step: Any) -> Any:
    """Replaces a loading step by one for files on disk."""
    name = _type_name(step)
    if not isinstance(step, dict) or not name.startswith('Load'):
        return step
    step = {k: v for k, v in step.items() if k not in ('backend_args', 'file_client_args')}
    return {**step, 'type': 'LoadImageFromFile'} if name == 'LoadImageFromNDArray' else step


def source_name(source: ImageSource) -> str:
    """Returns a name of an image for messages: its path, or its size."""
    if isinstance(source, (str, Path)):
        return str(source)
    return f'an image of {getattr(source, "shape", None) or getattr(source, "size", None)}'


def input_shape(config: Config) -> tuple[int, int]:
    """Returns (H, W) of the largest input that the evaluation of a config gives the model.

    Raises:
        UserError: If the test pipeline has no step with a fixed size.
    """
    preprocessor = config.get('data_preprocessor') or config.model.data_preprocessor
    settings = config.model.get('test_cfg') or {}
    if settings.get('mode') == 'slide':
        return tuple(settings['crop_size'])
    # mmseg's `size` is for training; `test_cfg` has the size for testing.
    testing = preprocessor.get('test_cfg') or {}
    if testing.get('size') is not None:
        return testing['size']
    steps = [
        step
        for step in config.test_dataloader.dataset.pipeline
        if type_name(step.type) in ('CenterCrop', 'Resize')
    ]
    sizes = [step.get('crop_size') or step.get('scale') for step in steps]
    if not any(sizes):
        raise UserError(
            'The test pipeline of this config keeps the size of images: it has no Resize with a '
            '`scale` and no CenterCrop. Give the input size with --shape H W; with --dynamic '
            'height,width it is an example.'
        )
    size = next(size for size in reversed(sizes) if size)
    width, height = (size, size) if isinstance(size, int) else size
    divisor = testing.get('size_divisor') or preprocessor.get('pad_size_divisor') or 1
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor
