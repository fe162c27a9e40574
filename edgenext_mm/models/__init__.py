from .arch import ARCHS, Arch
from .edgenext import EdgeNeXt
from .losses import RotatedIoULoss, rotated_iou

__all__ = ['ARCHS', 'Arch', 'EdgeNeXt', 'RotatedIoULoss', 'rotated_iou']
