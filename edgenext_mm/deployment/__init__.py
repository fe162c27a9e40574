"""From a trained model to one that runs fast elsewhere."""

from .export import export
from .exported_model import ExportedModel
from .form import DeployEdgeNeXt, switch_to_deploy
from .formats import FORMATS

__all__ = ['FORMATS', 'DeployEdgeNeXt', 'ExportedModel', 'export', 'switch_to_deploy']
