"""Pipeline steps that mmpretrain lacks."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
from mmpretrain.datasets.transforms import ColorJitter, RandomResizedCrop

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiScaleRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop`` to the image size of the batch.

    :class:`~edgenext_mm.datasets.MultiScaleBatchSampler` chooses the size. Without that sampler,
    the size is ``scale``. The arguments are those of ``RandomResizedCrop``.
    """

    def transform(self, results: dict) -> dict:
        """Crops ``img`` and updates ``img_shape``."""
        size = getattr(results.get('sample_idx'), 'crop_size', None) or self.scale
        height, width = (size, size) if isinstance(size, int) else size
        top, left, rows, columns = self.rand_crop_params(results['img'])
        # Pillow takes twenty times as long for a view as for a copy of it.
        crop = np.ascontiguousarray(results['img'][top : top + rows, left : left + columns])
        results['img'] = mmcv.imresize(
            crop, (width, height), interpolation=self.interpolation, backend=self.backend
        )
        results['img_shape'] = results['img'].shape
        return results


@TRANSFORMS.register_module()
class TableColorJitter(ColorJitter):
    """mmpretrain's ``ColorJitter`` by look-up tables, about six times faster.

    Random numbers and results are the same: brightness and contrast exactly those of Pillow, on
    which the original converts each image three times, and saturation with a difference of at most
    one of 255. The arguments are those of ``ColorJitter``, without ``backend``; images have three
    ``uint8`` channels, blue, green, red.
    """

    def transform(self, results: dict) -> dict:
        """Changes the colours of ``img``."""
        image = results['img']
        order, brightness, contrast, saturation, hue = self._rand_params()
        for index in order:
            if index == 0 and brightness is not None:
                image = _blended(image, 0, brightness)
            elif index == 1 and contrast is not None:
                grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
                image = _blended(image, int(grey.mean() + 0.5), contrast)
            elif index == 2 and saturation is not None:
                grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
                # Pillow rounds down.
                image = cv2.addWeighted(image, saturation, grey, 1 - saturation, -0.5)
            elif index == 3 and hue is not None:
                image = mmcv.adjust_hue(image, hue, backend=self.backend)
        results['img'] = image
        return results


def _blended(image: np.ndarray, value: int, factor: float) -> np.ndarray:
    """Moves all pixels away from a value by a factor, in single precision as Pillow does."""
    steps = np.arange(256, dtype=np.float32) - np.float32(value)
    table = np.float32(value) + np.float32(factor) * steps
    return cv2.LUT(image, table.clip(0, 255).astype(np.uint8))
