"""Soft edges are found where values are mixed, and not where classes touch."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data.soft_edges import find_soft_pixels

COLORS = np.array([(0, 0, 0), (250, 50, 20), (20, 100, 240)], np.uint8)


def gray(values):
    return values[:, None]


def discs(size=80):
    """Ids 0 to 2: two discs, each inside the one before, as organs of a scan are."""
    distance = np.hypot(*np.mgrid[-size:size, -size:size])
    return (distance < size / 2).astype(np.uint8) + (distance < size / 4)


@pytest.mark.parametrize("values", [discs(), np.array([0, 128, 255], np.uint8)[discs()]])
def test_classes_inside_each_other_are_no_mixtures(values):
    soft = find_soft_pixels(values.astype(np.int32), gray)
    for value in np.unique(values):
        assert soft[values == value].mean() < 0.1


@pytest.mark.parametrize("radius", [0.7, 3, 10])
def test_a_blurred_edge_is_found(radius):
    mask = Image.fromarray(255 * (discs() > 0).astype(np.uint8))
    values = np.array(mask.filter(ImageFilter.GaussianBlur(radius)), np.int32)
    soft = find_soft_pixels(values, gray)
    assert soft[(values > 60) & (values < 200)].mean() > 0.95
    assert not soft[(values == 0) | (values == 255)].any()


def test_a_mixture_of_colors_lies_between_them_and_a_thin_class_does_not():
    large = Image.fromarray(COLORS[discs(160)])
    mixed = np.array(large.resize((160, 160), Image.Resampling.BOX))
    values = mixed.astype(np.int32) @ [1 << 16, 1 << 8, 1]

    def color_of(values):
        return values[:, None] >> np.array([16, 8, 0]) & 255

    soft, pure = find_soft_pixels(values, color_of), (mixed[..., None, :] == COLORS).all(-1).any(-1)
    assert soft[~pure].mean() > 0.9 and not soft[pure].any()
    line = np.array([[0, 0, 0x00FF00, 0xFFFFFF, 0xFFFFFF]])  # Green between black and white.
    assert not find_soft_pixels(line, color_of).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_masks_of_any_size_are_read(shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    assert find_soft_pixels(values, gray).shape == shape


@pytest.mark.parametrize(
    "values, soft",
    [
        ([[0, 128, 255]], [[0, 1, 0]]),
        ([[0], [128], [128], [255]], [[0], [1], [1], [0]]),  # Along columns too.
        ([[0, 128, 128, 128, 255]], [[0, 0, 0, 0, 0]]),  # A class three pixels wide.
        ([[0, 0, 128], [255, 255, 255]], [[0, 0, 0], [0, 0, 0]]),  # A row ends where it ends.
        ([[0, 128, 0], [0, 255, 128]], [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_soft_pixel_has_its_neighbors_on_both_sides(values, soft):
    np.testing.assert_array_equal(find_soft_pixels(np.array(values), gray), np.array(soft, bool))
