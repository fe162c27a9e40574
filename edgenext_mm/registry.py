"""The project's registries: children of mmengine's, in the scope ``edgenext_mm``.

A config of any OpenMMLab library reaches what is registered here as ``edgenext_mm.EdgeNeXt`` and
so on, once ``custom_imports = dict(imports=['edgenext_mm'])`` has imported the package.
"""

from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import Registry, build_runner_from_cfg

#: Backbones, necks, heads, losses and classifiers.
MODELS = Registry('model', parent=MMENGINE_MODELS, scope='edgenext_mm', locations=['edgenext_mm'])
#: Data sets.
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
#: Samplers of batches.
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
#: Parts of a training that act at its steps.
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='edgenext_mm', locations=['edgenext_mm'])
#: Runners, chosen by ``runner_type`` in a config.
RUNNERS = Registry(
    'runner',
    build_func=build_runner_from_cfg,
    parent=MMENGINE_RUNNERS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
#: Writers of logged values.
VISBACKENDS = Registry(
    'vis_backend',
    parent=MMENGINE_VISBACKENDS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
#: Ways to give parameters their learning rates.
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_CONSTRUCTORS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
#: Steps of a data pipeline.
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='edgenext_mm',
    locations=['edgenext_mm'],
)
# Lets configs inherit ours as `edgenext_mm::...`: mmengine knows by name of whose it may.
MODULE2PACKAGE['edgenext_mm'] = 'edgenext_mm'


def type_name(kind: Any) -> str:
    """The name of a class in a config, without module or scope.

    Args:
        kind: The ``type`` of a part: a name (``mmdet.FPN``), or a class, as in configs with
            ``read_base()``.
    """
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', repr(kind))
    return name.rpartition('.')[2]
