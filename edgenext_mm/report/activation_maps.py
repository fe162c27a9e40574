"""Maps of what a model looks at.

The package ``grad-cam`` has more methods, but it installs another build of OpenCV over that of the
OpenMMLab libraries.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

METHODS = {
    'classification': 'Grad-CAM (Selvaraju et al. 2017) of the predicted class',
    'other': "EigenCAM (Muhammad and Yeasin 2020): the first principal component of the backbone's "
    'last map',
}


def activation_map(
    model: nn.Module, item: dict[str, Any], is_classifier: bool
) -> np.ndarray | None:
    """Computes a map of the input regions that a result is based on.

    Args:
        model: A model whose backbone has ``stages``, such as EdgeNeXt.
        item: What the test pipeline returns for one image.
        is_classifier: Whether to weight the channels by the gradient of the predicted class
            (Grad-CAM) instead of by their first principal component (EigenCAM).

    Returns:
        (H, W) from 0 to 1, of the size of the input; None if the model has no such backbone.
    """
    stages = getattr(getattr(model, 'backbone', None), 'stages', None)
    if not isinstance(stages, nn.ModuleList) or not isinstance(
        stages[-1], nn.Sequential | nn.ModuleList
    ):
        return None
    kept: list[Tensor] = []
    last = stages[-1][-1]  # the backbone calls the encoders of a stage one by one
    handle = last.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        data = model.data_preprocessor(pseudo_collate([item]), False)
        with torch.set_grad_enabled(is_classifier):
            if is_classifier:
                inputs = data['inputs'].requires_grad_()
                logits = model(inputs, mode='tensor')
                (gradient,) = torch.autograd.grad(logits.max(), kept[0])
                weights = gradient.mean((2, 3), keepdim=True)
                heat = (kept[0] * weights).sum(1).relu()[0]
            else:
                model.extract_feat(data['inputs'])
                heat = _first_component(kept[0][0])
    finally:
        handle.remove()
    values = heat.detach().cpu().numpy().astype(np.float32)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    height, width = data['inputs'].shape[-2:]
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)


def _first_component(maps: Tensor) -> Tensor:
    """Projects (C, H, W) maps on the channels' first principal component."""
    flat = maps.flatten(1).T
    flat = flat - flat.mean(0)
    _, _, directions = torch.linalg.svd(flat, full_matrices=False)
    projected = flat @ directions[0]
    if projected.sum() < 0 or projected.median() > 0:  # the object is the smaller part
        projected = -projected
    return projected.reshape(maps.shape[1:]).relu()


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays a map over an image.

    Args:
        image: (H, W, 3) uint8.
        heat: Values from 0 to 1 of any size.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    resized = cv2.resize(heat.clip(0, 1), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((resized * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return cv2.addWeighted(image, 0.5, colours, 0.5, 0)
