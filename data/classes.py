"""Facts about data sets and their classes: names, colours, sizes."""

import numpy as np

IGNORE_LABEL = 255  # Of pixels that belong to no class: borders and padding.

VOC_CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_palette() -> np.ndarray:
    """The [256, 3] uint8 colours of the VOC development kit: row = class id, 255 = ignored.

    The bits of an id are dealt out to red, green and blue, the lowest to the highest bit.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette
