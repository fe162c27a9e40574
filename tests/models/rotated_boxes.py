"""Rotated boxes, (N, 5) in NumPy, as polygons of shapely."""

import numpy as np
import shapely


def corners(boxes):
    """(N, 4, 2) corners of (N, 5) float64 boxes."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    local = signs * boxes[:, None, 2:4] / 2
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return np.einsum('nij,nkj->nki', turn, local) + boxes[:, None, :2]


def reference(pred, target):
    """IoUs by shapely, which intersects polygons with a sweep line."""
    pred, target = (np.array(boxes, np.float64) for boxes in (pred, target))
    pred[:, :2] -= target[:, :2]
    target[:, :2] = 0
    shared = shapely.area(
        shapely.intersection(shapely.polygons(corners(pred)), shapely.polygons(corners(target)))
    )
    union = pred[:, 2] * pred[:, 3] + target[:, 2] * target[:, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
