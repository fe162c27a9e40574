"""EdgeNeXt for OpenMMLab. Importing the package registers its parts in the scope edgenext_mm."""

from .requirements import check_requirements
from .version import __version__

check_requirements()

from .apis import get_model, inference_model, load_model  # noqa: E402
from .checkpoints.zoo import list_models  # noqa: E402
from .engine import Runner  # noqa: E402
from .models import EdgeNeXt  # noqa: E402

__all__ = [
    'EdgeNeXt',
    'Runner',
    '__version__',
    'get_model',
    'inference_model',
    'list_models',
    'load_model',
]
