"""From a trained model to one that runs fast elsewhere."""

from .exported_model import ExportedModel
from .exporter import export
from .file_formats import FORMATS
from .form import DeployEdgeNeXt, switch_to_deploy

__all__ = ['FORMATS', 'DeployEdgeNeXt', 'ExportedModel', 'export', 'switch_to_deploy']
