"""The loss is the mean over valid pixels of the whole batch, and nothing else counts."""

import numpy as np
import pytest
import tensorflow as tf

from model.losses import downsample_labels, pixel_cross_entropy


def by_hand(labels, logits, ignore_label=255):
    losses = []
    for label, logit in zip(labels.ravel(), logits.reshape(-1, logits.shape[-1]), strict=True):
        if label != ignore_label:
            losses.append(np.log(np.exp(logit).sum()) - logit[label])
    return sum(losses), len(losses)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.95])
def test_sum_and_number_are_those_by_hand(ignored):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (2, 7, 5)).astype("int32")
    labels[rng.uniform(size=labels.shape) < ignored] = 255
    logits = rng.normal(size=(2, 7, 5, 4)).astype("float32")
    total, valid = pixel_cross_entropy(labels, logits, ignore_label=255)
    expected = by_hand(labels, logits)
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)
    assert int(valid) == expected[1]


def test_labels_full_of_255_have_neither_loss_nor_gradient():
    logits = tf.Variable(tf.random.stateless_normal((1, 3, 3, 4), (0, 1)))
    with tf.GradientTape() as tape:
        total, valid = pixel_cross_entropy(tf.fill((1, 3, 3), 255), logits, ignore_label=255)
    assert float(total) == float(valid) == 0
    np.testing.assert_array_equal(tape.gradient(total, logits), 0)


def test_what_is_predicted_on_255_changes_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (1, 6, 6)).astype("int32")
    labels[0, 2] = 255
    logits = rng.normal(size=(1, 6, 6, 4)).astype("float32")
    other = logits.copy()
    other[0, 2] = 1e4
    results = [pixel_cross_entropy(labels, x, ignore_label=255) for x in (logits, other)]
    np.testing.assert_array_equal(results[0], results[1])


def test_labels_are_downsampled_to_the_nearest_pixel_with_corners_aligned():
    labels = tf.reshape(tf.range(2 * 33 * 65), (2, 33, 65))
    np.testing.assert_array_equal(downsample_labels(labels, (3, 5)), labels[:, ::16, ::16])
    rows = downsample_labels(labels, (4, 65))  # At 0, 10 2/3, 21 1/3 and 32.
    np.testing.assert_array_equal(rows, tf.gather(labels, [0, 11, 21, 32], axis=1))
    np.testing.assert_array_equal(downsample_labels(labels, (33, 65)), labels)
    np.testing.assert_array_equal(downsample_labels(labels, (1, 1)), labels[:, :1, :1])
