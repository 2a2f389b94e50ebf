"""Augmentation moves image and label alike, and is the same for the same seed."""

import numpy as np
import pytest
import tensorflow as tf

from data.augment import SCALES, augment, pad, random_crop, random_flip, random_scale, resize

MEAN = (123.15, 115.90, 103.06)


def pair(height, width):
    """An image whose red value is its label, which differs from pixel to pixel."""
    label = np.arange(height * width, dtype="int32").reshape(height, width) % 200
    image = np.stack([label, label, label], -1).astype("float32")
    return tf.constant(image), tf.constant(label)


def seed(number):
    return tf.constant([0, number], tf.int64)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 20), (40, 64), (90, 31)])
def test_every_result_is_of_the_crop_and_of_known_values(size):
    image, label = pair(*size)
    for number in range(10):
        new_image, new_label = augment(image, label, seed(number), crop_size=33, mean_pixel=MEAN)
        assert new_image.shape == (33, 33, 3) and new_label.shape == (33, 33)
        assert set(np.unique(new_label)) <= {*np.unique(label), 255}
        assert np.min(new_image) >= 0 and np.max(new_image) <= 200


def test_padding_is_the_mean_pixel_and_255_at_the_bottom_and_the_right():
    image, label = pair(5, 40)
    new_image, new_label = pad(image, label, 33, MEAN)
    assert new_label.shape == (33, 40)
    np.testing.assert_array_equal(new_label[:5], label)
    np.testing.assert_array_equal(new_image[:5], image)
    assert (new_label[5:].numpy() == 255).all()
    np.testing.assert_array_equal(new_image[5:], np.broadcast_to(np.float32(MEAN), (28, 40, 3)))


@pytest.mark.parametrize("number", range(5))
def test_crop_and_flip_move_image_and_label_alike(number):
    image, label = random_crop(*pair(50, 40), seed(number), 33)
    image, label = random_flip(image, label, seed(number))
    np.testing.assert_array_equal(image[..., 0], label)


def test_scales_are_all_drawn_and_corners_stay():
    image, label = pair(40, 20)
    seen = set()
    for number in range(60):
        new_image, new_label = random_scale(image, label, seed(number))
        assert new_image.shape[:2] == new_label.shape
        seen.add(new_label.shape[0] / 40)
        for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            assert int(new_image[corner][0]) == int(new_label[corner]) == int(label[corner])
    assert seen == set(SCALES)


def test_crops_reach_every_place_and_flips_are_fair():
    _, label = pair(9, 9)
    image = tf.zeros((9, 9, 3))
    corners = {int(random_crop(image, label, seed(n), 7)[1][0, 0]) for n in range(200)}
    assert corners == {row * 9 + column for row in range(3) for column in range(3)}
    flipped = [int(random_flip(image, label, seed(n))[1][0, 0]) != 0 for n in range(200)]
    assert 70 < sum(flipped) < 130


def test_seed_alone_decides_in_and_outside_a_dataset():
    image, label = pair(30, 45)

    def augmented(number):
        return augment(
            image,
            label,
            tf.stack([tf.constant(7, tf.int64), number]),
            crop_size=33,
            mean_pixel=MEAN,
        )

    in_dataset = list(tf.data.Dataset.range(20).map(augmented, num_parallel_calls=2))
    for number, (new_image, new_label) in enumerate(in_dataset):
        again = augmented(tf.constant(number, tf.int64))
        np.testing.assert_allclose(again[0], new_image, atol=1e-4)
        np.testing.assert_array_equal(again[1], new_label)
    # Two may be alike: there are but 14 of scale and flip, and most leave no room to move.
    assert len({result[0].numpy().tobytes() for result in in_dataset}) > 10


def test_labels_are_resized_to_the_nearest_of_the_image():
    image, label = pair(17, 17)
    doubled = resize(label[..., None], [33, 33], "nearest")[..., 0]
    np.testing.assert_array_equal(doubled[::2, ::2], label)
    np.testing.assert_allclose(resize(image, [33, 33], "bilinear")[::2, ::2], image, atol=1e-4)
