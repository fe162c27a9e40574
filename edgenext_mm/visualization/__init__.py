from .curves import plot_curves
from .grid import plot_grid, plot_predictions

__all__ = ['plot_curves', 'plot_grid', 'plot_predictions']
