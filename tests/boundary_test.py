"""Near boundaries: distances, bands and counts, against their definitions pixel by pixel."""

import numpy as np
import pytest

from evaluation.boundary import (
    TRIMAP_WIDTHS,
    boundary_counts,
    distance_to_others,
    trimap_confusions,
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


@pytest.mark.parametrize("seed", range(4))
def test_the_distance_is_to_the_nearest_pixel_of_another_id(seed):
    label, _ = blobs(seed)
    places = np.stack(np.indices(label.shape), -1)
    for place in np.ndindex(label.shape):
        others = places[label != label[place]]
        expected = np.sqrt(((others - place) ** 2).sum(-1)).min()
        assert distance_to_others(label)[place] == pytest.approx(expected)


def test_where_all_is_alike_there_is_no_boundary():
    assert np.isinf(distance_to_others(np.ones((3, 4), np.int32))).all()
    counts = trimap_confusions(np.ones((3, 4), np.int32), np.ones((3, 4), np.int32), **FACTS)
    assert counts.shape == (len(TRIMAP_WIDTHS), 3, 3) and not counts.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_trimap_grows_to_the_whole_image(seed):
    label, prediction = blobs(seed)
    counts = trimap_confusions(label, prediction, **FACTS)
    assert (np.diff(counts.sum((1, 2))) >= 0).all()
    np.testing.assert_array_equal(counts[-1], confusion_matrix(label, prediction, **FACTS))
    near = np.abs(distance_to_others(label)) <= 1
    expected = confusion_matrix(label[near], prediction[near], **FACTS)
    np.testing.assert_array_equal(counts[0], expected)


def band_by_hand(mask, width):
    """Pixels of a mask with one outside of it, or of the image, within width."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded) - 1
    band = np.zeros(mask.shape, bool)
    for place in np.argwhere(mask):
        band[tuple(place)] = np.sqrt(((outside - place) ** 2).sum(-1)).min() <= width
    return band


@pytest.mark.parametrize("seed", range(4))
def test_boundary_counts_are_those_of_the_bands(seed):
    label, prediction = blobs(seed, (60, 80))  # Of diagonal 100: bands of 2 pixels.
    counts = boundary_counts(label, prediction, **FACTS)
    valid = label != 255
    for k in range(3):
        ours, theirs = band_by_hand(label == k, 2), band_by_hand((prediction == k) & valid, 2)
        assert tuple(counts[k]) == ((ours & theirs).sum(), (ours | theirs).sum())


@pytest.mark.parametrize("count", [trimap_confusions, boundary_counts])
def test_what_is_predicted_on_255_changes_nothing(count):
    label, prediction = blobs(0)
    other = np.where(label == 255, 2, prediction)
    ours, theirs = (count(label, p, **FACTS) for p in (prediction, other))
    np.testing.assert_array_equal(ours, theirs)
