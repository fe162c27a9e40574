"""From a trained model to one that runs fast elsewhere."""

from .form import DeployEdgeNeXt, switch_to_deploy

__all__ = ['DeployEdgeNeXt', 'switch_to_deploy']
