"""EdgeNeXt for OpenMMLab. Importing the package registers its parts in the scope edgenext_mm.

Everything that configs and scripts use can be imported from here. Without PyTorch, or in the
distribution ``edgenext_mm_runtime``, there is only :mod:`edgenext_mm.runtime`.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from .errors import UserError
from .version import __version__

if Path(__file__).with_name('models').is_dir() and importlib.util.find_spec('torch'):
    from .requirements import check_requirements

    check_requirements()

    from .apis import get_model, inference_model, load_model
    from .checkpoints.zoo import list_models
    from .datasets import ClassBalancedDataset, MultiScaleBatchSampler
    from .deployment import ExportedModel, export, switch_to_deploy
    from .engine import LayerDecayOptimWrapperConstructor, Runner
    from .models import ARCHS, Arch, EdgeNeXt, RotatedIoULoss

#: Modules of the parts that need a task library. They are imported on first use.
_OF_TASK_LIBRARIES = {
    'DistilledClassifier': 'models.classifiers.distilled_classifier',
    'ImageFolder': 'datasets.image_folder',
    'MultiScaleRandomResizedCrop': 'datasets.transforms',
    'RotatedGFLHead': 'models.heads.rotated_gfl_head',
    'SSDHead': 'models.heads.ssd_head',
    'SSDLiteNeck': 'models.necks.ssdlite_neck',
}

__all__ = [
    'ARCHS',
    'Arch',
    'ClassBalancedDataset',
    'DistilledClassifier',
    'EdgeNeXt',
    'ExportedModel',
    'ImageFolder',
    'LayerDecayOptimWrapperConstructor',
    'MultiScaleBatchSampler',
    'MultiScaleRandomResizedCrop',
    'RotatedGFLHead',
    'RotatedIoULoss',
    'Runner',
    'SSDHead',
    'SSDLiteNeck',
    'UserError',
    '__version__',
    'export',
    'get_model',
    'inference_model',
    'list_models',
    'load_model',
    'switch_to_deploy',
]


def __getattr__(name: str) -> Any:
    if name not in _OF_TASK_LIBRARIES or 'EdgeNeXt' not in globals():
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = importlib.import_module(f'.{_OF_TASK_LIBRARIES[name]}', __name__)
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_TASK_LIBRARIES})
