"""Scores near the boundaries of the label: trimaps and boundary IoU."""

import numpy as np

TRIMAP_WIDTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)  # Pixels.
BAND_WIDTH = 0.02  # Of the image's diagonal; boundary IoU's paper.
STRIP_WIDTH = 512  # Columns that are worked on together: they fit into a core's cache.


def count_near_boundaries(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two [H, W] of class ids -> the counts of trimap_confusions and of boundary_counts."""
    facts = {"num_classes": num_classes, "ignore_label": ignore_label}
    label = label.astype(np.uint8)
    prediction = np.where(label == ignore_label, label, prediction.astype(np.uint8))
    limit = max(TRIMAP_WIDTHS[-1], band_width(label.shape))
    distances = [squared_distance_to_others(ids, limit) for ids in (label, prediction)]
    trimap = trimap_confusions(label, prediction, distances[0], **facts)
    return trimap, boundary_counts(label, prediction, *distances, **facts)


def trimap_confusions(
    label: np.ndarray,
    prediction: np.ndarray,
    squared_distance: np.ndarray,
    *,
    num_classes: int,
    ignore_label: int,
) -> np.ndarray:
    """[H, W] ids, the label's distances -> [len(TRIMAP_WIDTHS), C, C] pixels within each width.

    The image's edge is not a boundary; one with ignored pixels is.
    Source: Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", 2009.
    """
    squares = np.square(TRIMAP_WIDTHS)
    near = (squared_distance <= squares[-1]) & (label != ignore_label)
    rings = np.searchsorted(squares, squared_distance[near])
    pairs = num_classes * label[near].astype(np.int64) + prediction[near]
    shape = (len(squares), num_classes, num_classes)
    counts = np.bincount(num_classes**2 * rings + pairs, minlength=np.prod(shape))
    return np.cumsum(counts.reshape(shape), axis=0)


def boundary_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    label_distance: np.ndarray,
    prediction_distance: np.ndarray,
    *,
    num_classes: int,
    ignore_label: int,
) -> np.ndarray:
    """[H, W] ids, both distances -> [C, 2] pixels in both, and in either, of the inner bands.

    A class's band is the part of its mask within 2 % of the image's diagonal from the mask's edge,
    which may be the image's. Its boundary IoU is the quotient of the sums over all images. Pixels
    of ignore_label belong to no mask. Source: Cheng et al., "Boundary IoU", 2021.
    """
    ours, theirs = (
        np.where(_is_in_band(distance), ids, ignore_label)
        for ids, distance in ((label, label_distance), (prediction, prediction_distance))
    )
    in_ours, in_theirs, in_both = (
        np.bincount(ids[ids != ignore_label], minlength=num_classes)
        for ids in (ours, theirs, np.where(ours == theirs, ours, ignore_label))
    )
    return np.stack([in_both, in_ours + in_theirs - in_both], axis=-1)


def band_width(size: tuple[int, int]) -> int:
    """The size of an image -> the width of boundary IoU's bands in pixels."""
    return max(1, round(BAND_WIDTH * np.hypot(*size)))


def _is_in_band(squared_distance):
    width = band_width(squared_distance.shape)
    band = squared_distance <= width**2
    band[:width], band[-width:], band[:, :width], band[:, -width:] = True, True, True, True
    return band


def squared_distance_to_others(ids: np.ndarray, limit: int) -> np.ndarray:
    """[H, W] uint8 ids -> [H, W] squared distance in pixels to the nearest pixel of another id.

    A pixel at a boundary has 1. Any value over limit**2 stands for a distance over limit. The
    image's edge is not a boundary. Exact: the nearest such pixel is in some row of the image, where
    it is at the pixel's own column, or else is the nearest one of that row to the pixel there.
    Source: ours, after Saito and Toriwaki, "New Algorithms for Euclidean Distance Transformation",
    1994.
    """
    far = limit + 1
    dtype = np.uint16 if 2 * far**2 < 2**16 else np.uint32
    in_row = np.square(_distance_in_row(ids, far), dtype=dtype, casting="unsafe")
    squared = np.empty_like(in_row)
    for left in range(0, ids.shape[1], STRIP_WIDTH):
        strip = np.s_[:, left : left + STRIP_WIDTH]
        squared[strip] = _least_over_rows(ids[strip].copy(), in_row[strip].copy(), limit)
    return squared


def _distance_in_row(ids, far):
    """[H, W] ids -> [H, W] distance to the nearest pixel of another id in its row, up to far."""
    columns = np.arange(ids.shape[1])
    row, column = np.nonzero(ids[:, 1:] != ids[:, :-1])
    start = np.full(ids.shape, -far)  # Of the pixels of one id in a row,
    end = np.full(ids.shape, ids.shape[1] + far)  # and the first one behind them.
    start[row, column + 1] = end[row, column] = column + 1
    start = np.maximum.accumulate(start, axis=1)
    end = np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(columns - start + 1, end - columns), far)


def _least_over_rows(ids, in_row, limit):
    """[H, W] ids, and squared distances in their rows -> the squared distances in the image."""
    least = in_row.copy()
    for shift in range(1, min(limit, len(ids) - 1) + 1):
        is_same = ids[shift:] == ids[:-shift]
        upper, lower = np.s_[:-shift], np.s_[shift:]
        for here, there in ((upper, lower), (lower, upper)):
            distance = in_row[there] * is_same  # 0 where the pixel in that row is of another id.
            distance += in_row.dtype.type(shift**2)
            np.minimum(least[here], distance, out=least[here])
    return least
