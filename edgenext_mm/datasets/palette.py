"""The values of masks and their colours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Value of pixels that count for no class.
IGNORED = 255


def ignored_value(config: Mapping[str, Any]) -> int:
    """The value of mask pixels that a segmentor's loss leaves out.

    Args:
        config: A full config. Its decode head's ``ignore_index`` counts; without one, 255.
    """
    heads = (config.get('model') or {}).get('decode_head') or {}
    head = heads[0] if isinstance(heads, list | tuple) else heads
    return head.get('ignore_index', IGNORED)


def voc_palette() -> np.ndarray:
    """(256, 3) uint8 RGB colours of VOC's masks.

    An index's bits go to red, green and blue in turn; the lowest become the colours' highest.
    """
    colours: np.ndarray = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colours
