from .curves import plot_curves
from .grid import plot_grid

__all__ = ['plot_curves', 'plot_grid']
