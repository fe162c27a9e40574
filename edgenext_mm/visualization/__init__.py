from .curves import plot_curves, plot_lr_finder
from .frames import draw_on_frame
from .pictures import picture_names, plot_grid, plot_predictions, plot_result

__all__ = [
    'draw_on_frame',
    'picture_names',
    'plot_curves',
    'plot_grid',
    'plot_lr_finder',
    'plot_predictions',
    'plot_result',
]
