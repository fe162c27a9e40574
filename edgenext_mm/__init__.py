"""EdgeNeXt for OpenMMLab. Importing the package registers its parts in the scope edgenext_mm."""

from .requirements import check_requirements
from .version import __version__

check_requirements()

from .apis import inference_model, load_model  # noqa: E402
from .models import EdgeNeXt  # noqa: E402

__all__ = ['EdgeNeXt', '__version__', 'inference_model', 'load_model']
