from .rotated_iou import rotated_iou
from .rotated_iou_loss import RotatedIoULoss

__all__ = ['RotatedIoULoss', 'rotated_iou']
