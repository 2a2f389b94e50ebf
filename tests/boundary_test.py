"""Near boundaries: distances, bands and counts, against their definitions pixel by pixel."""

import numpy as np
import pytest

from evaluation import boundary
from evaluation.boundary import (
    TRIMAP_WIDTHS,
    count_near_boundaries,
    squared_distance_to_others,
)
from evaluation.metrics import confusion_matrix

FACTS = dict(num_classes=3, ignore_label=255)


def blobs(seed, size=(14, 17)):
    """Two labels of a few rectangles each, some of 255 in the first."""
    rng = np.random.default_rng(seed)
    label, prediction = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for array, values in ((label, [1, 2, 255]), (prediction, [1, 2, 1])):
        for value in values:
            top, left = rng.integers(0, 9, 2)
            array[top : top + rng.integers(2, 7), left : left + rng.integers(2, 7)] = value
    return label, prediction


@pytest.mark.parametrize("limit", [3, 40, 300])  # The last takes more than 16 bits.
@pytest.mark.parametrize("seed", range(4))
def test_the_distance_is_to_the_nearest_pixel_of_another_id(seed, limit, monkeypatch):
    monkeypatch.setattr(boundary, "STRIP_WIDTH", 5)
    label, _ = blobs(seed)
    places = np.stack(np.indices(label.shape), -1)
    squared = squared_distance_to_others(label.astype(np.uint8), limit)
    for place in np.ndindex(label.shape):
        others = places[label != label[place]]
        expected = ((others - place) ** 2).sum(-1).min()
        assert squared[place] == expected if expected <= limit**2 else squared[place] > limit**2


def test_where_all_is_alike_there_is_no_boundary():
    alike = np.ones((3, 4), np.uint8)
    assert (squared_distance_to_others(alike, 40) > 40**2).all()
    trimap, _ = count_near_boundaries(alike, alike, **FACTS)
    assert trimap.shape == (len(TRIMAP_WIDTHS), 3, 3) and not trimap.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_trimap_grows_to_the_whole_image(seed):
    label, prediction = blobs(seed)
    counts, _ = count_near_boundaries(label, prediction, **FACTS)
    assert (np.diff(counts.sum((1, 2))) >= 0).all()
    np.testing.assert_array_equal(counts[-1], confusion_matrix(label, prediction, **FACTS))
    for width, count in zip(TRIMAP_WIDTHS, counts, strict=True):
        near = squared_distance_to_others(label.astype(np.uint8), 40) <= width**2
        expected = confusion_matrix(label[near], prediction[near], **FACTS)
        np.testing.assert_array_equal(count, expected)


def band_by_hand(mask, width):
    """Pixels of a mask with one outside of it, or of the image, within width."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded) - 1
    band = np.zeros(mask.shape, bool)
    for place in np.argwhere(mask):
        band[tuple(place)] = np.sqrt(((outside - place) ** 2).sum(-1)).min() <= width
    return band


@pytest.mark.parametrize("size", [(60, 80), (50, 70)])  # Bands of 2 pixels, and of 1.72: 2.
@pytest.mark.parametrize("seed", range(4))
def test_boundary_counts_are_those_of_the_bands(seed, size):
    label, prediction = blobs(seed, size)
    _, counts = count_near_boundaries(label, prediction, **FACTS)
    valid = label != 255
    for k in range(3):
        ours, theirs = band_by_hand(label == k, 2), band_by_hand((prediction == k) & valid, 2)
        assert tuple(counts[k]) == ((ours & theirs).sum(), (ours | theirs).sum())


def test_what_is_predicted_on_255_changes_nothing():
    label, prediction = blobs(0)
    other = np.where(label == 255, 2, prediction)
    for ours, theirs in zip(
        count_near_boundaries(label, prediction, **FACTS),
        count_near_boundaries(label, other, **FACTS),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
