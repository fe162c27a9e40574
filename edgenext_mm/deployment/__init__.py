"""From a trained model to one that runs fast elsewhere."""

from .export import export
from .form import DeployEdgeNeXt, switch_to_deploy
from .formats import FORMATS
from .runner import Runner

__all__ = ['FORMATS', 'DeployEdgeNeXt', 'Runner', 'export', 'switch_to_deploy']
