"""How good a prediction is near the boundaries of the label."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from model.metrics import confusion_matrix

TRIMAP_WIDTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)  # Pixels.
DIAGONAL_SHARE = 0.02  # Of boundary IoU, in its paper.


def distance_to_others(label: np.ndarray) -> np.ndarray:
    """[H, W] class ids -> [H, W] distance in pixels to the nearest pixel of another id.

    A pixel at a boundary has 1. 255 is another id too; beyond the image's edge there is none, and
    where all ids are alike the distance is infinite.
    """
    distance = np.full(label.shape, np.inf)
    for value in np.unique(label):
        inside = label == value
        if not inside.all():
            distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


def trimap_confusions(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    ignore_label: int,
    widths: Sequence[int] = TRIMAP_WIDTHS,
) -> np.ndarray:
    """Two [H, W] of class ids -> [len(widths), C, C] pixel counts within each width of a boundary.

    Source: Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", 2009.
    """
    distance = distance_to_others(label)
    return np.stack(
        [
            confusion_matrix(
                label[distance <= width],
                prediction[distance <= width],
                num_classes=num_classes,
                ignore_label=ignore_label,
            )
            for width in widths
        ]
    )


def boundary_counts(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Two [H, W] of class ids -> [C, 2] pixels in both, and in either, of the classes' inner bands.

    A class's band is what of its mask lies within 2 % of the image's diagonal of the mask's edge;
    the quotient of the sums over all images is its boundary IoU. Pixels of ignore_label belong to
    no mask, whatever is predicted there. Source: Cheng et al., "Boundary IoU", 2021.
    """
    width = max(1, round(DIAGONAL_SHARE * np.hypot(*label.shape)))
    counts = np.zeros((num_classes, 2), np.int64)
    prediction = np.where(label == ignore_label, ignore_label, prediction)
    for k in np.setdiff1d([label, prediction], ignore_label):
        bands = [_band(ids == k, width) for ids in (label, prediction)]
        counts[k] = np.sum(bands[0] & bands[1]), np.sum(bands[0] | bands[1])
    return counts


def _band(mask, width):
    """What of a mask lies within width of its edge; the image's edge is one too."""
    padded = np.pad(mask, 1)
    return mask & (ndimage.distance_transform_edt(padded)[1:-1, 1:-1] <= width)
