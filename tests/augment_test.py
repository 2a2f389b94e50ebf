"""A crop is what scaling, padding, cropping and flipping the whole image gives, at less cost."""

import numpy as np
import pytest
import tensorflow as tf

from data.augment import SCALE_DENOMINATOR, SCALE_NUMERATORS, crop_image, crop_label, draw_window

MEAN = (123.15, 115.90, 103.06)
CROP = 33
SIZES = [(1, 1), (1, 50), (4, 33), (33, 20), (40, 64), (90, 31)]


def seed(number):
    return tf.constant([0, number], tf.int64)


def pair(height, width):
    """A photo-like image and a label whose ids differ from pixel to pixel."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return image, (np.arange(height * width) % 200).astype(np.uint8).reshape(height, width)


def cropped(image, label, window):
    part = tf.slice(
        image, [*tf.unstack(window.source_corner), 0], [*tf.unstack(window.source_size), 3]
    )
    return crop_image(part, window, CROP, MEAN), crop_label(label, window, CROP)


def plainly_cropped(image, label, window):
    """The same, step by step, on all of the image: scale, pad, crop, flip; not yet rounded."""
    height, width = (
        (side - 1) // SCALE_DENOMINATOR * SCALE_DENOMINATOR + 1 for side in label.shape
    )
    image, label = image[:height, :width].astype(np.float32), label[:height, :width]
    size = [(side - 1) * int(window.scale) // SCALE_DENOMINATOR + 1 for side in (height, width)]
    image = tf.compat.v1.image.resize(image, size, "bilinear", align_corners=True).numpy()
    label = tf.compat.v1.image.resize(label[..., None], size, "nearest", align_corners=True)
    label = label.numpy()[..., 0]
    grown = [max(side, CROP) for side in size]
    padded = np.full((*grown, 3), np.array(MEAN, np.float32))
    padded[: size[0], : size[1]] = image
    padded_label = np.full(grown, 255, np.uint8)
    padded_label[: size[0], : size[1]] = label
    top, left = (int(value) for value in window.corner)
    crop = np.s_[top : top + CROP, left : left + CROP]
    mirror = -1 if window.flip else 1
    return padded[crop][:, ::mirror], padded_label[crop][:, ::mirror]


@pytest.mark.parametrize("size", SIZES)
def test_crops_equal_those_of_the_plain_way(size):
    """To half a gray level, which rounding takes, and float32's error; labels exactly."""
    image, label = pair(*size)
    for number in range(30):
        window = draw_window(tf.constant(size), seed(number), CROP)
        ours, plain = cropped(image, label, window), plainly_cropped(image, label, window)
        assert ours[0].shape == (CROP, CROP, 3) and ours[0].dtype == tf.uint8
        np.testing.assert_allclose(ours[0], plain[0], atol=0.501)
        np.testing.assert_array_equal(ours[1], plain[1])


def test_no_more_of_the_original_is_taken_than_the_crop_shows():
    for number in range(50):
        window = draw_window(tf.constant((90, 120)), seed(number), CROP)
        needed = window.visible_size.numpy() * SCALE_DENOMINATOR / window.scale.numpy()
        assert (window.source_size.numpy() <= needed + 2 * SCALE_DENOMINATOR).all()
        assert ((window.source_corner + window.source_size).numpy() <= (90, 120)).all()


def test_every_scale_is_drawn_and_flips_are_fair():
    windows = [draw_window(tf.constant((90, 90)), seed(number), CROP) for number in range(200)]
    assert {int(window.scale) for window in windows} == set(SCALE_NUMERATORS)
    assert 70 < sum(bool(window.flip) for window in windows) < 130


def test_crops_reach_every_place_alike():
    windows = [draw_window(tf.constant((41, 41)), seed(number), 39) for number in range(400)]
    corners = [
        tuple(window.corner.numpy()) for window in windows if window.scale == SCALE_DENOMINATOR
    ]
    counts = {corner: corners.count(corner) for corner in set(corners)}
    assert set(counts) == {(row, column) for row in range(3) for column in range(3)}
    assert max(counts.values()) < 5 * min(counts.values())


def test_padding_is_the_mean_pixel_and_255():
    image, label = pair(5, 40)
    window = draw_window(tf.constant((5, 40)), seed(0), CROP)._replace(flip=tf.constant(False))
    new_image, new_label = cropped(image, label, window)
    rows = int(window.visible_size[0])
    assert rows < CROP
    assert (new_label[rows:].numpy() == 255).all() and (new_label[:rows].numpy() != 255).any()
    padding = np.broadcast_to(np.uint8((123, 116, 103)), (CROP - rows, CROP, 3))
    np.testing.assert_array_equal(new_image[rows:], padding)


def test_seed_alone_decides_in_and_outside_a_dataset():
    image, label = pair(30, 45)

    def augmented(number):
        window = draw_window(tf.shape(label), tf.stack([tf.constant(7, tf.int64), number]), CROP)
        return cropped(tf.constant(image), tf.constant(label), window)

    in_dataset = list(tf.data.Dataset.range(20).map(augmented, num_parallel_calls=2))
    for number, results in enumerate(in_dataset):
        again = augmented(tf.constant(number, tf.int64))
        for ours, theirs in zip(results, again, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # Two may be alike: there are but 14 of scale and flip, and most leave no room to move.
    assert len({result[0].numpy().tobytes() for result in in_dataset}) > 10
