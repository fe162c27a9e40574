"""EdgeNeXt for OpenMMLab, with its parts registered in the scope edgenext_mm.

Everything that configs and scripts use can be imported from here. Modules are imported on first
use: the registries know where their parts are. Without mmengine, or in the distribution
``edgenext_mm_runtime``, there is only :mod:`edgenext_mm.runtime`.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .version import __version__

if TYPE_CHECKING:
    from .apis import (
        embeddings,
        get_model,
        inference_model,
        load_model,
        nearest_images,
        push_to_hub,
        reset_classifier,
    )
    from .checkpoints.zoo import list_models
    from .datasets import ClassBalancedDataset, MultiScaleBatchSampler
    from .datasets.image_folder import ImageFolder
    from .datasets.transforms import MultiScaleRandomResizedCrop, TableColorJitter
    from .deployment import ExportedModel, export, switch_to_deploy
    from .engine import LayerDecayOptimWrapperConstructor, Runner
    from .evaluation import RotatedBoxMetric
    from .models import ARCHS, Arch, EdgeNeXt, RotatedIoULoss
    from .models.classifiers.distilled_classifier import DistilledClassifier
    from .models.heads.rotated_gfl_head import RotatedGFLHead
    from .models.heads.ssd_head import SSDHead
    from .models.necks.ssdlite_neck import SSDLiteNeck

#: Modules of the public names. Those that are not named after a package need a task library.
_MODULES = {
    'ARCHS': 'models',
    'Arch': 'models',
    'ClassBalancedDataset': 'datasets',
    'DistilledClassifier': 'models.classifiers.distilled_classifier',
    'EdgeNeXt': 'models',
    'ExportedModel': 'deployment',
    'ImageFolder': 'datasets.image_folder',
    'LayerDecayOptimWrapperConstructor': 'engine',
    'MultiScaleBatchSampler': 'datasets',
    'MultiScaleRandomResizedCrop': 'datasets.transforms',
    'RotatedBoxMetric': 'evaluation',
    'RotatedGFLHead': 'models.heads.rotated_gfl_head',
    'RotatedIoULoss': 'models',
    'Runner': 'engine',
    'SSDHead': 'models.heads.ssd_head',
    'SSDLiteNeck': 'models.necks.ssdlite_neck',
    'TableColorJitter': 'datasets.transforms',
    'embeddings': 'apis',
    'export': 'deployment',
    'get_model': 'apis',
    'inference_model': 'apis',
    'list_models': 'checkpoints.zoo',
    'load_model': 'apis',
    'nearest_images': 'apis',
    'push_to_hub': 'apis',
    'reset_classifier': 'apis',
    'switch_to_deploy': 'deployment',
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
    'RotatedBoxMetric',
    'RotatedGFLHead',
    'RotatedIoULoss',
    'Runner',
    'SSDHead',
    'SSDLiteNeck',
    'TableColorJitter',
    'UserError',
    '__version__',
    'embeddings',
    'export',
    'get_model',
    'inference_model',
    'list_models',
    'load_model',
    'nearest_images',
    'push_to_hub',
    'reset_classifier',
    'switch_to_deploy',
]

_IS_COMPLETE = Path(__file__).with_name('models').is_dir()  # not so in edgenext_mm_runtime
if _IS_COMPLETE and importlib.util.find_spec('mmengine'):
    from .requirements import check_requirements

    check_requirements()
    importlib.import_module('.registry', __name__)  # other libraries find the scope


def __getattr__(name: str) -> Any:
    if name not in _MODULES or not _IS_COMPLETE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if importlib.util.find_spec('mmengine') is None:
        importlib.import_module('.requirements', __name__).check_requirements()  # says so
    return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
