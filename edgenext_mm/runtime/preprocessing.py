"""The test pipeline of an exported model, without OpenMMLab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .images import read_image, resize
from .sources import ImageSource


class Prepared(NamedTuple):
    """An image as the network takes it.

    Args:
        pixels: (H, W, C) uint8 pixels after the steps of the pipeline; red-green-blue or grey.
        original_size: (H, W) of the image as read.
        scale_factor: Factors by which width and height were multiplied.
    """

    pixels: np.ndarray
    original_size: tuple[int, int]
    scale_factor: tuple[float, float]


class Preprocessing:
    """Reads, resizes, normalises and pads images as the test pipeline of a config does.

    Args:
        description: ``preprocessing`` of :class:`~edgenext_mm.runtime.Metadata`.
        reduced_jpeg: Whether to decode JPEG files in the smallest size that is not below that after
            resizing. Default: False.

    Raises:
        UserError: If the pipeline has steps that only OpenMMLab's libraries have.
    """

    def __init__(self, description: Mapping[str, Any], reduced_jpeg: bool = False) -> None:
        self.description = description
        loading = description['loading'][-1] if description['loading'] else {}
        color = loading.get('color_type', 'color')
        kinds = (color, loading.get('imdecode_backend') or 'cv2')
        if kinds not in {(c, d) for c in ('color', 'grayscale') for d in ('cv2', 'pillow')}:
            raise UserError(
                f'This model loads images with {loading}. Without OpenMMLab, images can be read '
                "with color_type 'color' or 'grayscale'. Run it with `edgenext_mm.inference_model`."
            )
        self.grey = color == 'grayscale'
        self.steps = [self._step(dict(step)) for step in description['steps']]
        first = self.steps[0] if self.steps else None
        self._reducing = first if reduced_jpeg and isinstance(first, Resizing) else None
        self.mean = np.array(description['mean'] or [0], np.float32)
        self.std = np.array(description['std'] or [1], np.float32)

    def _step(self, step: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        name = str(step.pop('type')).split('.')[-1]
        if name not in STEPS:
            raise UserError(
                f'The test pipeline of this model has the step {name}, which is unknown without '
                f'OpenMMLab. Known are {", ".join(STEPS)}. Run the file with '
                '`edgenext_mm.inference_model`.'
            )
        try:
            return STEPS[name](**step)
        except TypeError as error:
            raise UserError(
                f'The step {name} of the test pipeline has settings that are unknown without '
                f'OpenMMLab: {error}. Run the file with `edgenext_mm.inference_model`.'
            ) from error

    def __call__(self, source: ImageSource) -> Prepared:
        """Returns an image after the steps of the pipeline.

        Raises:
            UserError: If it cannot be read as an image.
        """
        reducing = self._reducing
        pixels, original = read_image(source, self.grey, reducing.size_of if reducing else None)
        height, width = original
        resized = (width, height)
        for step in self.steps:
            before = pixels.shape
            if step is reducing:
                resized = step.size_of(width, height)
                pixels = step.to(pixels, resized)
                continue
            pixels = step(pixels)
            if isinstance(step, Resizing) and pixels.shape != before:
                resized = pixels.shape[1::-1]
        return Prepared(pixels, original, (resized[0] / width, resized[1] / height))

    def read(self, source: ImageSource) -> np.ndarray:
        """Returns the (H, W, C) uint8 pixels of an image, blue-green-red or grey.

        Raises:
            UserError: If it cannot be read as an image.
        """
        return read_image(source, self.grey).array[..., ::-1]

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Returns (C, H, W) float32 normalised channels in the order of the network."""
        if self.description['channel_order'] == 'BGR':
            pixels = pixels[..., ::-1]
        return ((pixels - self.mean) / self.std).astype(np.float32).transpose(2, 0, 1)

    def pad(self, pixels: np.ndarray, shape: tuple[int, int], normalise: bool) -> np.ndarray:
        """Pads an image at the right and bottom as the model's preprocessor does.

        Args:
            pixels: (H, W, C) uint8 pixels.
            shape: (H, W) of the result.
            normalise: Whether to normalise before, else the padding is the nearest pixel value.

        Returns:
            (C, H, W) float32 normalised channels, or (H, W, C) uint8 pixels.
        """
        below, right = shape[0] - pixels.shape[0], shape[1] - pixels.shape[1]
        value = self.description['pad_value']
        if normalise:
            places = [(0, 0), (0, below), (0, right)]
            return np.pad(self.normalise(pixels), places, constant_values=value)
        fill = np.rint(self.mean + value * self.std).clip(0, 255).astype(np.uint8)
        if self.description['channel_order'] == 'BGR':
            fill = fill[::-1]
        padded = np.broadcast_to(fill, (*shape, pixels.shape[2])).copy()
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """Returns (H, W) after the padding that the model asks for."""
        testing = self.description.get('testing') or {}
        if testing.get('size') is not None:
            return max(testing['size'][0], shape[0]), max(testing['size'][1], shape[1])
        divisor = testing.get('size_divisor') or self.description['pad_size_divisor'] or 1
        return -(-shape[0] // divisor) * divisor, -(-shape[1] // divisor) * divisor


class Resizing:
    """A step that resizes images.

    Args:
        size_of: Maps width and height to the new ones.
        interpolation: See :func:`~edgenext_mm.runtime.images.resize`.
        backend: ``cv2`` or ``pillow``.
    """

    def __init__(
        self, size_of: Callable[[int, int], tuple[int, int]], interpolation: str, backend: str
    ) -> None:
        self.size_of, self.interpolation, self.backend = size_of, interpolation, backend

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns the (H, W, C) image in its new size."""
        height, width = image.shape[:2]
        return self.to(image, self.size_of(width, height))

    def to(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the (H, W, C) image in another size than its own leads to."""
        return resize(image, size, self.interpolation, self.backend)


def _resize(
    scale: Any = None,
    scale_factor: Any = None,
    keep_ratio: bool = False,
    interpolation: str = 'bilinear',
    backend: str = 'cv2',
    clip_object_border: bool = True,
) -> Resizing:
    """mmcv's ``Resize``."""

    def size_of(width: int, height: int) -> tuple[int, int]:
        factors: Any = scale_factor
        if scale is not None:
            target = (scale, scale) if isinstance(scale, int) else tuple(scale)
            if not keep_ratio:
                return target
            factor = min(max(target) / max(width, height), min(target) / min(width, height))
            factors = (factor, factor)
        elif isinstance(factors, (int, float)):
            factors = (factors, factors)
        return int(width * factors[0] + 0.5), int(height * factors[1] + 0.5)

    return Resizing(size_of, interpolation, backend)


def _resize_edge(
    scale: int, edge: str = 'short', backend: str = 'cv2', interpolation: str = 'bilinear'
) -> Resizing:
    """mmpretrain's ``ResizeEdge``."""

    def size_of(width: int, height: int) -> tuple[int, int]:
        by_width = {'short': width < height, 'long': width > height}.get(edge, edge == 'width')
        if by_width:
            return scale, int(scale * height / width)
        return int(scale * width / height), scale

    return Resizing(size_of, interpolation, backend)


def _center_crop(crop_size: Any) -> Callable[[np.ndarray], np.ndarray]:
    """``CenterCrop`` of mmcv and mmpretrain."""
    crop_width, crop_height = (crop_size,) * 2 if isinstance(crop_size, int) else crop_size

    def crop(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        top = max(0, round((height - crop_height) / 2))
        left = max(0, round((width - crop_width) / 2))
        return image[top : top + crop_height, left : left + crop_width]

    return crop


STEPS: dict[str, Callable[..., Callable[[np.ndarray], np.ndarray]]] = {
    'Resize': _resize,
    'ResizeEdge': _resize_edge,
    'CenterCrop': _center_crop,
}
