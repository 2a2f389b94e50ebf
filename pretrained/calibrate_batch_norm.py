"""Batch norm that was folded into convolutions -> batch norm that can be trained again."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from data.terminal import track
from training.strategy import first_replica

NUM_IMAGES = 64  # That statistics are taken from, at least. Ours.


def calibrate_batch_norm(
    model: keras.Model,
    names: Sequence[str],
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    *,
    batch_size: int,
    strategy: tf.distribute.Strategy,
) -> None:
    """Replaces the statistics of batch norms by those of their inputs; the function stays the same.

    Where batch norm was folded into a convolution, its moving mean and variance are 0 and 1. In
    training such a layer normalizes by the batch's statistics, which are others: the network would
    no longer be the one that was trained. With the mean m and variance v of its input, they become
    m and v, gamma becomes gamma sqrt(v + epsilon) / s and beta becomes beta + gamma (m - mean) / s,
    where s = sqrt(variance + epsilon). Source: ours.

    Args:
      model: of deeplabv3.
      names: of the batch norms.
      batches: of images and labels, as training has them, distributed by the strategy.
      batch_size: of all replicas together.
      strategy: under which the model was made. All replicas get the same statistics.
    """
    batch_norms = [model.get_layer(name) for name in names]
    inputs = keras.Model(model.input, [layer.input for layer in batch_norms])
    moments = _make_moments(inputs, strategy)
    num_batches = -(-NUM_IMAGES // batch_size)
    steps = track(range(num_batches), "calibrating batch norm", num_batches)
    of_batches = [
        [np.asarray(of_layer, np.float64) for of_layer in moments(images)]
        for _, (images, _) in zip(steps, batches, strict=False)
    ]
    for layer, of_layer in zip(batch_norms, zip(*of_batches, strict=True), strict=True):
        mean, mean_of_squares = np.mean(of_layer, axis=0)
        recenter(layer, mean, np.maximum(mean_of_squares - mean**2, 0))


def _make_moments(inputs, strategy):
    """A model with several outputs -> images of a batch to the [2, C] moments of each output."""

    def replica_moments(images):
        outputs = tf.nest.flatten(inputs(images, training=False))
        outputs = [tf.cast(x, tf.float32) for x in outputs]
        moments = [tf.reduce_mean(tf.stack([x, x**2]), (1, 2, 3)) for x in outputs]
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, moments)

    @tf.function
    def moments(images):
        return first_replica(strategy.run(replica_moments, args=(images,)), strategy)

    return moments


def recenter(
    layer: keras.layers.BatchNormalization, mean: np.ndarray, variance: np.ndarray
) -> None:
    """Gives a batch norm other statistics, [C] each; gamma and beta make up for the difference."""
    gamma, beta, old_mean, old_variance = (
        np.asarray(weight, np.float64) for weight in layer.get_weights()
    )
    slope = gamma / np.sqrt(old_variance + layer.epsilon)
    values = (slope * np.sqrt(variance + layer.epsilon), beta + slope * (mean - old_mean))
    layer.set_weights([*values, mean, variance])
