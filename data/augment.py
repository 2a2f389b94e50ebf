"""Augmentation in training: (image, label, seed) -> (image, label), the same for the same seed.

Images are [H, W, 3] float32, labels [H, W] int32, seeds [2] integers. The order is the authors'
code's: random scale, pad to the crop, random crop, random flip.
"""

import tensorflow as tf

from data.classes import IGNORE_LABEL

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)  # Sec. 4.1: 0.5 to 2.0; the steps: authors' code.


def augment(
    image: tf.Tensor,
    label: tf.Tensor,
    seed: tf.Tensor,
    *,
    crop_size: int,
    mean_pixel: tuple[float, float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """[H, W, 3], [H, W] -> [crop_size, crop_size, 3], [crop_size, crop_size]."""
    scale_seed, crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))
    image, label = random_scale(image, label, scale_seed)
    image, label = pad(image, label, crop_size, mean_pixel)
    image, label = random_crop(image, label, crop_seed, crop_size)
    return random_flip(image, label, flip_seed)


def random_scale(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes both by one of SCALES: [H, W, ...] -> [scale H, scale W, ...], at least 1 pixel."""
    choice = tf.random.stateless_uniform((), seed, 0, len(SCALES), tf.int32)
    size = tf.cast(tf.shape(label), tf.float32) * tf.constant(SCALES)[choice]
    size = tf.maximum(tf.cast(size, tf.int32), 1)
    return resize(image, size, "bilinear"), resize(label[..., None], size, "nearest")[..., 0]


def resize(image: tf.Tensor, size: tf.Tensor, method: str) -> tf.Tensor:
    """[H, W, C] -> [size[0], size[1], C], corners aligned as everywhere in the authors' code."""
    # The resize of TensorFlow 2 cannot align corners.
    return tf.compat.v1.image.resize(image, size, method, align_corners=True)


def pad(
    image: tf.Tensor, label: tf.Tensor, size: int, mean_pixel: tuple[float, float, float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Grows both to at least [size, size], at the bottom and the right.

    The new pixels are mean_pixel, which the network sees as 0, and IGNORE_LABEL.
    """
    margins = tf.maximum(size - tf.shape(label), 0)
    margins = tf.stack([tf.zeros_like(margins), margins], axis=1)
    inside = tf.pad(tf.ones_like(label, tf.float32), margins)[..., None]
    image = tf.pad(image, tf.concat([margins, [[0, 0]]], axis=0))
    image += (1 - inside) * tf.constant(mean_pixel, tf.float32)
    return image, tf.pad(label, margins, constant_values=IGNORE_LABEL)


def random_crop(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """A window of both at a random place: [H, W, ...] -> [size, size, ...]."""
    room = tf.cast(tf.shape(label) - size + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform((2,), seed) * room, tf.int32)
    window = tf.concat([corner, [0]], axis=0)
    image = tf.ensure_shape(tf.slice(image, window, [size, size, 3]), (size, size, 3))
    return image, tf.ensure_shape(tf.slice(label, corner, [size, size]), (size, size))


def random_flip(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors both from left to right, one time in two: [H, W, ...] -> [H, W, ...]."""
    flip = tf.random.stateless_uniform((), seed) < 0.5
    return tf.cond(flip, lambda: (image[:, ::-1], label[:, ::-1]), lambda: (image, label))
