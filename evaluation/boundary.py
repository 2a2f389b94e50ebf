"""How good a prediction is near the boundaries of the label."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from evaluation.metrics import confusion_matrix

TRIMAP_WIDTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)  # Pixels.
DIAGONAL_SHARE = 0.02  # Of boundary IoU, in its paper.


def distance_to_others(label: np.ndarray) -> np.ndarray:
    """[H, W] class ids -> [H, W] distance in pixels to the nearest pixel of another id.

    A pixel at a boundary has 1. 255 is another id too; beyond the image's edge there is none, and
    where all ids are alike the distance is infinite.
    """
    distance = np.full(label.shape, np.inf)
    for value, box in _boxes(label):
        inside = label[box] == value
        if not inside.all():
            distance[box][inside] = ndimage.distance_transform_edt(inside)[inside]
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
    rings = np.searchsorted(widths, distance_to_others(label))
    facts = {"num_classes": num_classes, "ignore_label": ignore_label}
    each = [
        confusion_matrix(label[rings == i], prediction[rings == i], **facts)
        for i in range(len(widths))
    ]
    return np.cumsum(each, axis=0)


def boundary_counts(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Two [H, W] of class ids -> [C, 2] pixels in both, and in either, of the classes' inner bands.

    A class's band is what of its mask lies within 2 % of the image's diagonal of the mask's edge;
    the quotient of the sums over all images is its boundary IoU. Pixels of ignore_label belong to
    no mask, whatever is predicted there. Source: Cheng et al., "Boundary IoU", 2021.
    """
    width = max(1, round(DIAGONAL_SHARE * np.hypot(*label.shape)))
    prediction = np.where(label == ignore_label, ignore_label, prediction)
    ours, theirs = (_bands(ids, width, ignore_label) for ids in (label, prediction))
    in_ours, in_theirs, in_both = (
        np.bincount(ids[ids != ignore_label], minlength=num_classes)
        for ids in (ours, theirs, np.where(ours == theirs, ours, ignore_label))
    )
    return np.stack([in_both, in_ours + in_theirs - in_both], axis=-1)


def _bands(ids, width, ignore_label):
    """[H, W] ids -> the same within width of an id's edge or the image's, else ignore_label."""
    bands = np.full(ids.shape, ignore_label)
    for value, box in _boxes(ids):
        mask = np.pad(ids[box] == value, 1)  # Beyond the box there is no more of it.
        near = (mask & (ndimage.distance_transform_edt(mask) <= width))[1:-1, 1:-1]
        bands[box][near] = value
    return bands


def _boxes(ids):
    """[H, W] ids -> each id and the part of the image that holds it, with one pixel around it.

    The nearest pixel of another id is in there: on the way to one that is not lies the rim.
    """
    for value, box in enumerate(ndimage.find_objects(ids.astype(np.int32) + 1)):
        if box is not None:
            yield value, tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
