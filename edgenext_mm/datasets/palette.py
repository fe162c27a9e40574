"""The values of masks and their colours."""

import numpy as np

#: Value of pixels that count for no class.
IGNORED = 255


def voc_palette() -> np.ndarray:
    """(256, 3) uint8 RGB colours of VOC's masks.

    An index's bits go to red, green and blue in turn; the lowest become the colours' highest.
    """
    colours: np.ndarray = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colours
