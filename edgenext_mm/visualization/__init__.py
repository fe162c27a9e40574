from .curves import plot_curves
from .pictures import plot_grid, plot_predictions, plot_result

__all__ = ['plot_curves', 'plot_grid', 'plot_predictions', 'plot_result']
