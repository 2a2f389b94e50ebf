"""Training augmentation, in the order of the authors' code: scale, pad to the crop, crop, flip.

Only visible pixels are computed: `draw_crop` decides which pixels of the original a crop needs;
`crop_image` and `crop_label` compute the crop from those alone. For this to be exact, scales are
multiples of 1/4, and an image's sides are trimmed to 4 m + 1 pixels (dropping up to three at the
bottom and right; our choice). At scale k/4 they become k m + 1, corners aligned, so every fourth
original pixel is a pixel of the scaled image.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.classes import IGNORE_LABEL

SCALE_DENOMINATOR = 4
SCALE_NUMERATORS = (2, 3, 4, 5, 6, 7, 8)  # Sec. 4.1: 0.5 to 2.0. Steps of 1/4: authors' code.


class Crop(NamedTuple):
    """The part of an image that training sees: at which scale, where, and whether flipped."""

    scale: tf.Tensor  # One of SCALE_NUMERATORS, in units of 1/SCALE_DENOMINATOR.
    corner: tf.Tensor  # [2]: top and left of the crop in the scaled image.
    visible_size: tf.Tensor  # [2]: rows and columns it shows; the rest of the crop is padding.
    flip: tf.Tensor  # Whether the crop is flipped horizontally, including its padding.
    source_corner: tf.Tensor  # [2]: top and left of the pixels it needs of the original image.
    source_size: tf.Tensor  # [2]: rows and columns of these pixels.


def draw_crop(size: tf.Tensor, seed: tf.Tensor, crop_size: int) -> Crop:
    """An image's [2] size and a [2] integer seed -> a random Crop of the image."""
    scale_seed, corner_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))
    choice = tf.random.stateless_uniform((), scale_seed, 0, len(SCALE_NUMERATORS), tf.int32)
    scale = tf.constant(SCALE_NUMERATORS)[choice]
    scaled_size = (size - 1) // SCALE_DENOMINATOR * scale + 1
    visible_size = tf.minimum(scaled_size, crop_size)
    num_corners = tf.cast(scaled_size - visible_size + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform((2,), corner_seed) * num_corners, tf.int32)
    first = corner // scale * SCALE_DENOMINATOR
    last = -(-(corner + visible_size - 1) // scale) * SCALE_DENOMINATOR  # Rounded up.
    flip = tf.random.stateless_uniform((), flip_seed) < 0.5
    return Crop(scale, corner, visible_size, flip, first, last - first + 1)


def crop_image(
    source: tf.Tensor, crop: Crop, crop_size: int, mean_pixel: tuple[float, float, float]
) -> tf.Tensor:
    """[*crop.source_size, 3] uint8 -> [crop_size, crop_size, 3] uint8, resized bilinearly.

    Args:
      source: the pixels of the original image that the crop needs.
      crop: which part of the image, at which scale.
      crop_size: side of the crop.
      mean_pixel: color of the padding, rounded; almost 0 after normalization.

    Returns:
      The crop.
    """
    source = tf.cond(crop.flip, lambda: tf.reverse(source, [1]), lambda: source)
    size = (crop.source_size - 1) // SCALE_DENOMINATOR * crop.scale + 1
    corner = crop.corner - crop.source_corner // SCALE_DENOMINATOR * crop.scale
    flipped = tf.stack([corner[0], size[1] - crop.visible_size[1] - corner[1]])
    corner = tf.where(crop.flip, flipped, corner)
    source = tf.cast(source, tf.float32) + 0.5  # The cast to uint8 truncates; this makes it round.
    # TensorFlow 2's resize cannot align corners.
    scaled = tf.cast(tf.compat.v1.image.resize(source, size, align_corners=True), tf.uint8)
    visible = tf.slice(scaled, [*tf.unstack(corner), 0], [*tf.unstack(crop.visible_size), 3])
    padding = np.full((crop_size, crop_size, 3), np.round(mean_pixel), np.uint8)
    return _pad(visible, crop, tf.constant(padding))


def crop_label(label: tf.Tensor, crop: Crop, crop_size: int) -> tf.Tensor:
    """[H, W] uint8 class ids -> [crop_size, crop_size], nearest neighbor, padded with 255."""

    def source_positions(corner, size, flip):
        positions = tf.range(size)
        positions = corner + tf.where(flip, size - 1 - positions, positions)
        # positions * SCALE_DENOMINATOR / scale, rounded, halves up.
        return (2 * SCALE_DENOMINATOR * positions + crop.scale) // (2 * crop.scale)

    rows = source_positions(crop.corner[0], crop.visible_size[0], False)
    columns = source_positions(crop.corner[1], crop.visible_size[1], crop.flip)
    # Transposed twice, because gathering whole rows is faster than gathering columns.
    visible = tf.transpose(tf.gather(tf.transpose(tf.gather(label, rows)), columns))
    padding = np.full((crop_size, crop_size), IGNORE_LABEL, np.uint8)
    return _pad(visible, crop, tf.constant(padding))


def _pad(visible, crop, padding):
    """[h, w, ...] -> the shape of padding, filled up with its pixels.

    At the bottom and right; if the crop is flipped, at the bottom and left.
    """
    height, width = tf.unstack(crop.visible_size)

    def pad():
        side = padding[:height, width:]
        rows = tf.cond(
            crop.flip,
            lambda: tf.concat([side, visible], axis=1),
            lambda: tf.concat([visible, side], axis=1),
        )
        return tf.concat([rows, padding[height:]], axis=0)

    fits = tf.reduce_all(crop.visible_size == padding.shape[:2])
    return tf.ensure_shape(tf.cond(fits, lambda: visible, pad), padding.shape)
