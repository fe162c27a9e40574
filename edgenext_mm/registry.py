"""The project's registries: children of mmengine's, in the scope ``edgenext_mm``.

A config of any OpenMMLab library reaches what is registered here as ``edgenext_mm.EdgeNeXt`` and
so on, once ``custom_imports = dict(imports=['edgenext_mm'])`` has imported the package.
"""

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

#: Backbones.
MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='edgenext_mm', locations=['edgenext_mm.models']
)
