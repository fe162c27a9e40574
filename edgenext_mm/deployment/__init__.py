"""The deploy form, and export of models to files for edge runtimes."""

from ..runtime.formats import FORMATS
from .exported_model import ExportedModel
from .exporter import export
from .form import DeployEdgeNeXt, switch_to_deploy

__all__ = ['FORMATS', 'DeployEdgeNeXt', 'ExportedModel', 'export', 'switch_to_deploy']
