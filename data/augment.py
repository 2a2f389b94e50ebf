"""Augmentation in training, in the authors' code's order: scale, pad to the crop, crop, flip.

Only what the crop shows is computed: `draw_window` decides which pixels of the original that takes,
`crop_image` and `crop_label` make the crop of these alone. For this to be exact, scales are whole
quarters and an image's sides count as 4 m + 1 pixels (up to three at the bottom and the right are
left out; our choice): at scale k/4 they become k m + 1, corners aligned, so that every fourth
original pixel is a pixel of the scaled image.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.classes import IGNORE_LABEL

STEPS = 4  # Per unit of scale.
SCALES = (2, 3, 4, 5, 6, 7, 8)  # In 1/STEPS. Sec. 4.1: 0.5 to 2.0; the steps: authors' code.


class Window(NamedTuple):
    """What a crop shows of an image: at which scale, where, and whether mirrored."""

    scale: tf.Tensor  # One of SCALES.
    corner: tf.Tensor  # [2]: its top and left in the scaled image.
    shown: tf.Tensor  # [2]: its rows and columns there; the rest of the crop is padding.
    flip: tf.Tensor  # Whether it is mirrored from left to right, padding and all.
    first: tf.Tensor  # [2]: the original's rows and columns that it takes, from first ...
    size: tf.Tensor  # [2]: ... this many.


def draw_window(size: tf.Tensor, seed: tf.Tensor, crop_size: int) -> Window:
    """An image's [2] size and a seed of [2] integers -> a random Window of it."""
    scale_seed, corner_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))
    choice = tf.random.stateless_uniform((), scale_seed, 0, len(SCALES), tf.int32)
    scale = tf.constant(SCALES)[choice]
    scaled = (size - 1) // STEPS * scale + 1
    shown = tf.minimum(scaled, crop_size)
    room = tf.cast(scaled - shown + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform((2,), corner_seed) * room, tf.int32)
    first = corner // scale * STEPS
    last = -(-(corner + shown - 1) // scale) * STEPS  # Rounded up.
    flip = tf.random.stateless_uniform((), flip_seed) < 0.5
    return Window(scale, corner, shown, flip, first, last - first + 1)


def crop_image(
    part: tf.Tensor, window: Window, crop_size: int, mean_pixel: tuple[float, float, float]
) -> tf.Tensor:
    """The part of an image that a Window takes -> the crop.

    part: [*window.size, 3] uint8. Returns [crop_size, crop_size, 3] uint8, bilinear, rounded, and
    padded with mean_pixel rounded, which the network sees as next to 0.
    """
    part = tf.cond(window.flip, lambda: tf.reverse(part, [1]), lambda: part)
    size = (window.size - 1) // STEPS * window.scale + 1
    corner = window.corner - window.first // STEPS * window.scale
    mirrored = tf.stack([corner[0], size[1] - window.shown[1] - corner[1]])
    corner = tf.where(window.flip, mirrored, corner)
    part = tf.cast(part, tf.float32) + 0.5  # So that it is rounded where it is cut off below.
    # The resize of TensorFlow 2 cannot align corners.
    scaled = tf.cast(tf.compat.v1.image.resize(part, size, align_corners=True), tf.uint8)
    shown = tf.slice(scaled, [*tf.unstack(corner), 0], [*tf.unstack(window.shown), 3])
    padding = np.full((crop_size, crop_size, 3), np.round(mean_pixel), np.uint8)
    return _pad(shown, window, tf.constant(padding))


def crop_label(label: tf.Tensor, window: Window, crop_size: int) -> tf.Tensor:
    """[H, W] uint8 class ids -> [crop_size, crop_size], nearest, padded with 255."""

    def sources(corner, shown, mirror):
        positions = tf.range(shown)
        positions = corner + tf.where(mirror, shown - 1 - positions, positions)
        return (2 * STEPS * positions + window.scale) // (2 * window.scale)  # Rounded, halves up.

    rows = sources(window.corner[0], window.shown[0], False)
    columns = sources(window.corner[1], window.shown[1], window.flip)
    # Twice transposed, since only whole rows are gathered fast.
    shown = tf.transpose(tf.gather(tf.transpose(tf.gather(label, rows)), columns))
    padding = np.full((crop_size, crop_size), IGNORE_LABEL, np.uint8)
    return _pad(shown, window, tf.constant(padding))


def _pad(shown, window, padding):
    """Grows what is shown to the size of padding, with pixels of it.

    At the bottom and the right; where the crop is mirrored, at the left.
    """
    height, width = tf.unstack(window.shown)

    def grown():
        beside = padding[:height, width:]
        row = tf.cond(
            window.flip,
            lambda: tf.concat([beside, shown], axis=1),
            lambda: tf.concat([shown, beside], axis=1),
        )
        return tf.concat([row, padding[height:]], axis=0)

    fits = tf.reduce_all(window.shown == padding.shape[:2])
    return tf.ensure_shape(tf.cond(fits, lambda: shown, grown), padding.shape)
