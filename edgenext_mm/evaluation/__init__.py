"""Metrics."""

from .rotated_box_metric import RotatedBoxMetric

__all__ = ['RotatedBoxMetric']
