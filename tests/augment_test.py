"""A crop is what scaling, padding, cropping and flipping the whole image gives, at less cost."""

import numpy as np
import pytest
import tensorflow as tf

from data.augment import SCALE_DENOMINATOR, SCALE_NUMERATORS, crop_image, crop_label, draw_crop

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


def cropped(image, label, crop):
    part = tf.slice(image, [*tf.unstack(crop.source_corner), 0], [*tf.unstack(crop.source_size), 3])
    return crop_image(part, crop, CROP, MEAN), crop_label(label, crop, CROP)


def plainly_cropped(image, label, crop):
    """The same, step by step, on all of the image: scale, pad, crop, flip; not yet rounded."""
    height, width = (
        (side - 1) // SCALE_DENOMINATOR * SCALE_DENOMINATOR + 1 for side in label.shape
    )
    image, label = image[:height, :width].astype(np.float32), label[:height, :width]
    size = [(side - 1) * int(crop.scale) // SCALE_DENOMINATOR + 1 for side in (height, width)]
    image = tf.compat.v1.image.resize(image, size, "bilinear", align_corners=True).numpy()
    label = tf.compat.v1.image.resize(label[..., None], size, "nearest", align_corners=True)
    label = label.numpy()[..., 0]
    grown = [max(side, CROP) for side in size]
    padded = np.full((*grown, 3), np.array(MEAN, np.float32))
    padded[: size[0], : size[1]] = image
    padded_label = np.full(grown, 255, np.uint8)
    padded_label[: size[0], : size[1]] = label
    top, left = (int(value) for value in crop.corner)
    part = np.s_[top : top + CROP, left : left + CROP]
    mirror = -1 if crop.flip else 1
    return padded[part][:, ::mirror], padded_label[part][:, ::mirror]


@pytest.mark.parametrize("size", SIZES)
def test_crops_equal_those_of_the_plain_way(size):
    """To half a gray level, which rounding takes, and float32's error; labels exactly."""
    image, label = pair(*size)
    for number in range(30):
        crop = draw_crop(tf.constant(size), seed(number), CROP)
        ours, plain = cropped(image, label, crop), plainly_cropped(image, label, crop)
        assert ours[0].shape == (CROP, CROP, 3) and ours[0].dtype == tf.uint8
        np.testing.assert_allclose(ours[0], plain[0], atol=0.501)
        np.testing.assert_array_equal(ours[1], plain[1])


def test_no_more_of_the_original_is_taken_than_the_crop_shows():
    for number in range(50):
        crop = draw_crop(tf.constant((90, 120)), seed(number), CROP)
        needed = crop.visible_size.numpy() * SCALE_DENOMINATOR / crop.scale.numpy()
        assert (crop.source_size.numpy() <= needed + 2 * SCALE_DENOMINATOR).all()
        assert ((crop.source_corner + crop.source_size).numpy() <= (90, 120)).all()


def test_every_scale_is_drawn_and_flips_are_fair():
    crops = [draw_crop(tf.constant((90, 90)), seed(number), CROP) for number in range(200)]
    assert {int(crop.scale) for crop in crops} == set(SCALE_NUMERATORS)
    scales = [numerator / SCALE_DENOMINATOR for numerator in SCALE_NUMERATORS]
    assert (scales[0], scales[-1]) == (0.5, 2.0)  # Sec. 4.1.
    assert 70 < sum(bool(crop.flip) for crop in crops) < 130


def test_crops_reach_every_place_alike():
    crops = [draw_crop(tf.constant((41, 41)), seed(number), 39) for number in range(400)]
    corners = [tuple(crop.corner.numpy()) for crop in crops if crop.scale == SCALE_DENOMINATOR]
    counts = {corner: corners.count(corner) for corner in set(corners)}
    assert set(counts) == {(row, column) for row in range(3) for column in range(3)}
    assert max(counts.values()) < 5 * min(counts.values())


def test_padding_is_the_mean_pixel_and_255():
    image, label = pair(5, 40)
    crop = draw_crop(tf.constant((5, 40)), seed(0), CROP)._replace(flip=tf.constant(False))
    new_image, new_label = cropped(image, label, crop)
    rows = int(crop.visible_size[0])
    assert rows < CROP
    assert (new_label[rows:].numpy() == 255).all() and (new_label[:rows].numpy() != 255).any()
    padding = np.broadcast_to(np.uint8((123, 116, 103)), (CROP - rows, CROP, 3))
    np.testing.assert_array_equal(new_image[rows:], padding)


def test_seed_alone_decides_in_and_outside_a_dataset():
    image, label = pair(30, 45)

    def augmented(number):
        crop = draw_crop(tf.shape(label), tf.stack([tf.constant(7, tf.int64), number]), CROP)
        return cropped(tf.constant(image), tf.constant(label), crop)

    in_dataset = list(tf.data.Dataset.range(20).map(augmented, num_parallel_calls=2))
    for number, results in enumerate(in_dataset):
        again = augmented(tf.constant(number, tf.int64))
        for ours, theirs in zip(results, again, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # Two may be alike: there are but 14 of scale and flip, and most leave no room to move.
    assert len({result[0].numpy().tobytes() for result in in_dataset}) > 10
