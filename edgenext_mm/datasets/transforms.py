"""Pipeline steps that mmpretrain lacks."""

from __future__ import annotations

from copy import copy

from mmpretrain.datasets.transforms import RandomResizedCrop

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiScaleRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop`` to the image size of the batch.

    :class:`~edgenext_mm.datasets.MultiScaleBatchSampler` chooses the size. Without that sampler,
    the size is ``scale``. The arguments are those of ``RandomResizedCrop``.
    """

    def transform(self, results: dict) -> dict:
        """Crops ``img`` and updates ``img_shape``."""
        crop_size = getattr(results.get('sample_idx'), 'crop_size', None)
        if crop_size is None:
            return super().transform(results)
        sized = copy(self)
        sized.scale = crop_size
        return super(MultiScaleRandomResizedCrop, sized).transform(results)
