from .layer_decay import LayerDecayOptimWrapperConstructor
from .local_vis_backend import LocalVisBackend
from .runner import Runner

__all__ = ['LayerDecayOptimWrapperConstructor', 'LocalVisBackend', 'Runner']
