"""Soft edges of masks: pixels that smoothing mixed from the values on both sides of an edge."""

from collections.abc import Callable

import numpy as np

MAX_RUN = 2  # Pixels. A soft edge changes at each pixel or two; a thin class may be wider. Ours.
MAX_DISTANCE = 4.0  # Of a mixture's color from the line between two colors, for rounding. Ours.

# Values [N] -> their colors, [N, C].
ColorOf = Callable[[np.ndarray], np.ndarray]


def find_soft_pixels(values: np.ndarray, color_of: ColorOf) -> np.ndarray:
    """A mask's values, [H, W] -> [H, W] bool: the pixels that look like mixtures of two others.

    Such a pixel is in a run of at most MAX_RUN equal pixels of its row or its column, and its color
    lies on the line between the colors before and after the run.
    """
    return _find_in_rows(values, color_of) | _find_in_rows(values.T, color_of).T


def _find_in_rows(values, color_of):
    """find_soft_pixels, along rows only."""
    is_start = np.ones(values.shape, bool)
    is_start[:, 1:] = values[:, 1:] != values[:, :-1]
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=values.size)
    rows = starts // values.shape[1]
    inside = (rows[:-2] == rows[2:]) & (lengths[1:-1] <= MAX_RUN)
    runs = np.flatnonzero(inside) + 1
    of_run = values.ravel()[starts]
    soft = np.zeros(starts.size, bool)
    soft[runs] = _is_between(*(color_of(of_run[runs + i]).astype(float) for i in (-1, 0, 1)))
    return np.repeat(soft, lengths).reshape(values.shape)


def _is_between(before, colors, after):
    """Three colors, [N, C] each -> [N] bool: whether the second is between the others."""
    line, offset = after - before, colors - before
    share = (offset * line).sum(1) / np.maximum((line * line).sum(1), 1e-9)
    distance = np.linalg.norm(offset - share[:, None] * line, axis=1)
    return (share > 0) & (share < 1) & (distance <= MAX_DISTANCE)
