"""Scores near the boundaries of the label: trimaps and boundary IoU."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from evaluation.metrics import confusion_matrix

TRIMAP_WIDTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)  # Pixels.
BAND_WIDTH = 0.02  # Of the image's diagonal; boundary IoU's paper.


def distance_to_others(label: np.ndarray) -> np.ndarray:
    """[H, W] class ids -> [H, W] distance in pixels to the nearest pixel of another id.

    A pixel at a boundary has 1. 255 is an id like the others. The image's edge is not a boundary:
    where all ids are equal the distance is infinite.
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

    A class's band is the part of its mask within 2 % of the image's diagonal from the mask's edge.
    Its boundary IoU is the quotient of the sums over all images. Pixels of ignore_label belong to
    no mask, whatever is predicted there. Source: Cheng et al., "Boundary IoU", 2021.
    """
    width = max(1, round(BAND_WIDTH * np.hypot(*label.shape)))
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
        mask = np.pad(ids[box] == value, 1)  # The mask does not extend beyond the box.
        near = (mask & (ndimage.distance_transform_edt(mask) <= width))[1:-1, 1:-1]
        bands[box][near] = value
    return bands


def _boxes(ids):
    """[H, W] ids -> each id and its bounding box, with one pixel around it.

    The box holds the nearest pixel of another id: the way to one outside crosses the box's rim.
    """
    for value, box in enumerate(ndimage.find_objects(ids.astype(np.int32) + 1)):
        if box is not None:
            yield value, tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
