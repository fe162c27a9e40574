"""The values of masks and their colours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Value of mask pixels that the loss ignores.
IGNORED = 255


def ignored_value(config: Mapping[str, Any]) -> int:
    """Returns the value of mask pixels that the loss of a segmentor ignores.

    Args:
        config: A full config. Without ``ignore_index`` in its decode head, the value is 255.
    """
    heads = (config.get('model') or {}).get('decode_head') or {}
    head = heads[0] if isinstance(heads, list | tuple) else heads
    return head.get('ignore_index', IGNORED)


def voc_palette() -> np.ndarray:
    """Returns the RGB colours of VOC's masks, (256, 3) uint8.

    The bits of an index go to red, green and blue in turn, from the highest bit of the colour on.
    """
    colours: np.ndarray = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colours
