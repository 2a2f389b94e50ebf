"""From a model to class probabilities for whole images, at their own size (Sec. 4.1)."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import keras
import numpy as np
from keras import KerasTensor, ops

from model.deeplabv3 import without_upsampling
from model.layers import resize_bilinear

# Sec. 4.1, of the evaluation with several scales.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

# Of a side, over a multiple of the stride.
EXTRA_PIXEL = {"aligned": 1, "half_pixel": 0}

MAX_PIXELS = 4_000_000  # Of an image that is predicted in one piece.
PIECE = 1024
GRID = 256  # A multiple of every output_stride.


def class_probabilities(
    model: keras.Model,
    images: KerasTensor,
    *,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    corners: str = "aligned",
) -> KerasTensor:
    """[B, H, W, 3] images, RGB in 0..255 -> [B, H, W, C] probabilities, at any H and W.

    The images are padded at the bottom and the right until a side is a multiple of output_stride,
    plus 1, at each of the scales: there features lie exactly on pixels. The result is cut back. If
    flip, the model sees them mirrored too; the result is the mean of the probabilities.
    corners: the model's own (corners_of); with "half_pixel" sides are multiples without the 1.
    Source: the authors' code, which pads all images to one such size, 513.
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    stride = output_stride * common_denominator(scales)
    padded = pad_to_stride(images, stride, mean_pixel, corners=corners)
    size = ops.shape(padded)[1:3]
    to_logits = without_upsampling(model)
    total = 0.0
    for scale in scales:
        x = padded
        if scale != 1:
            new_size = scaled_size(size, scale, corners=corners)
            x = resize_bilinear(padded, new_size, corners=corners)
        both = ops.concatenate([x, ops.flip(x, axis=2)]) if flip else x
        logits = resize_bilinear(to_logits(both, training=False), size, corners=corners)
        probabilities = ops.softmax(logits)
        if flip:
            straight, mirrored = ops.split(probabilities, 2)
            probabilities = (straight + ops.flip(mirrored, axis=2)) / 2
        total = total + probabilities
    return (total / len(scales))[:, :height, :width]


def common_denominator(scales: Sequence[float]) -> int:
    """Scales -> the number of which each of them is a whole number of parts: 4 for quarters."""
    return math.lcm(*(Fraction(scale).limit_denominator(16).denominator for scale in scales))


def scaled_size(size, scale, *, corners="aligned"):
    """[H, W] -> that at a scale, with the corners in place."""
    one = EXTRA_PIXEL[corners]
    return [
        ops.cast(ops.round(scale * ops.cast(side - one, "float32")), "int32") + one for side in size
    ]


def pad_to_stride(
    images: KerasTensor,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
    *,
    corners: str = "aligned",
) -> KerasTensor:
    """[B, H, W, 3] -> [B, H', W', 3], filled with mean_pixel up to a multiple of the stride + 1.

    Without the 1 where corners are "half_pixel".
    """
    one = EXTRA_PIXEL[corners]
    margins = [(one - ops.shape(images)[axis]) % output_stride for axis in (1, 2)]
    margins = [(0, 0), (0, margins[0]), (0, margins[1]), (0, 0)]
    images = ops.cast(images, "float32")
    outside = 1 - ops.pad(ops.ones_like(images[:, :, :, :1]), margins)
    return ops.pad(images, margins) + outside * ops.convert_to_tensor(mean_pixel, dtype="float32")


def class_ids(probabilities: KerasTensor) -> KerasTensor:
    """[B, H, W, C] probabilities -> [B, H, W] uint8, the most probable class of each pixel."""
    return ops.cast(ops.argmax(probabilities, axis=-1), "uint8")


def in_pieces(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    *,
    margin: int,
    whole: int = MAX_PIXELS,
    piece: int = PIECE,
) -> np.ndarray:
    """[H, W, 3] uint8 image of any size -> [H, W] uint8 class ids, in pieces if it is large.

    predict: [1, h, w, 3] -> [1, h, w]. An image of more than `whole` pixels is cut into squares of
    `piece` pixels, each predicted with `margin` pixels more around it. Where the margin is half the
    receptive field, and predictions are at scale 1, all is equal to the whole image's but for
    image-level features, which are of the piece.
    """
    height, width = image.shape[:2]
    if height * width <= whole:
        return np.asarray(predict(image[None]))[0]
    margin = -(-margin // GRID) * GRID  # So that features lie on the same pixels.
    class_ids = np.zeros((height, width), np.uint8)
    for top, left in itertools.product(range(0, height, piece), range(0, width, piece)):
        above, before = max(0, top - margin), max(0, left - margin)
        # One pixel more: a multiple of the grid, plus 1, is not padded.
        part = image[above : top + piece + margin + 1, before : left + piece + margin + 1]
        predicted = np.asarray(predict(part[None]))[0]
        inner = predicted[top - above :, left - before :][:piece, :piece]
        class_ids[top : top + piece, left : left + piece] = inner
    return class_ids
