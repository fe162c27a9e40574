"""Registries of the project, children of mmengine's registries in the scope ``edgenext_mm``.

Configs of all OpenMMLab libraries can use what is registered here, such as
``edgenext_mm.EdgeNeXt``, with ``custom_imports = dict(imports=['edgenext_mm'])``. A registry
imports the modules of its parts when a part is looked up first.
"""

from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import Registry, build_runner_from_cfg


def _registry(name: str, parent: Registry, package: str, **options: Any) -> Registry:
    locations = [f'edgenext_mm.{package}']
    return Registry(name, scope='edgenext_mm', parent=parent, locations=locations, **options)


#: Backbones, necks, heads, losses and classifiers.
MODELS = _registry('model', MMENGINE_MODELS, 'models')
#: Data sets.
DATASETS = _registry('dataset', MMENGINE_DATASETS, 'datasets')
#: Samplers of batches.
DATA_SAMPLERS = _registry('data sampler', MMENGINE_DATA_SAMPLERS, 'datasets')
#: Metrics.
METRICS = _registry('metric', MMENGINE_METRICS, 'evaluation')
#: Hooks of the runner.
HOOKS = _registry('hook', MMENGINE_HOOKS, 'engine.hooks')
#: Runners, chosen by ``runner_type`` in a config.
RUNNERS = _registry('runner', MMENGINE_RUNNERS, 'engine', build_func=build_runner_from_cfg)
#: Writers of logged values.
VISBACKENDS = _registry('vis_backend', MMENGINE_VISBACKENDS, 'engine')
#: Constructors of optimiser wrappers, which set the learning rate of each parameter.
OPTIM_WRAPPER_CONSTRUCTORS = _registry(
    'optimizer wrapper constructor', MMENGINE_CONSTRUCTORS, 'engine'
)
#: Steps of a data pipeline.
TRANSFORMS = _registry('transform', MMENGINE_TRANSFORMS, 'datasets')
# Lets configs inherit ours as `edgenext_mm::...`: mmengine has a list of the allowed packages.
MODULE2PACKAGE['edgenext_mm'] = 'edgenext_mm'


def type_name(kind: Any) -> str:
    """Returns the name of a class in a config without its module or scope.

    Args:
        kind: The ``type`` of a part: a name such as ``mmdet.FPN``, or a class, as in configs with
            ``read_base()``.
    """
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', repr(kind))
    return name.rpartition('.')[2]
