"""The deploy form, and export of models to files for edge runtimes."""

from .exported_model import ExportedModel
from .exporter import export
from .file_formats import FORMATS
from .form import DeployEdgeNeXt, switch_to_deploy

__all__ = ['FORMATS', 'DeployEdgeNeXt', 'ExportedModel', 'export', 'switch_to_deploy']
