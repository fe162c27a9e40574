"""Runs exported files without PyTorch: with NumPy, Pillow and one runtime.

The results are those of :func:`~edgenext_mm.inference_model`::

    from edgenext_mm.runtime import load

    model = load('cells.onnx')
    print(model('photo.jpg'))

The distribution ``edgenext_mm_runtime`` holds this package alone, for devices.
"""

from .formats import FORMATS
from .metadata import Metadata
from .model import Model, load

__all__ = ['FORMATS', 'Metadata', 'Model', 'load']
