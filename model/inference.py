"""From a model to class probabilities for whole images, at their own size (Sec. 4.1)."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, ops

from model.deeplabv3 import without_upsampling
from model.layers import resize_bilinear

# Sec. 4.1, of the evaluation with several scales.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def class_probabilities(
    model: keras.Model,
    images: KerasTensor,
    *,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> KerasTensor:
    """[B, H, W, 3] images, RGB in 0..255 -> [B, H, W, C] probabilities, at any H and W.

    The images are padded at the bottom and the right to a multiple of output_stride, plus 1,
    where features lie exactly on pixels; the result is cut back. The model sees them at each of the
    scales, of which a side of n pixels has round(scale * (n - 1)) + 1, and if flip, mirrored too;
    the result is the mean of the probabilities.
    Source: the authors' code, which pads all images to one such size, 513.
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    padded = pad_to_stride(images, output_stride, mean_pixel)
    size = ops.shape(padded)[1:3]
    to_logits = without_upsampling(model)
    total = 0.0
    for scale in scales:
        x = padded if scale == 1 else resize_bilinear(padded, scaled_size(size, scale))
        both = ops.concatenate([x, ops.flip(x, axis=2)]) if flip else x
        logits = resize_bilinear(to_logits(both, training=False), size)
        probabilities = ops.softmax(logits)
        if flip:
            straight, mirrored = ops.split(probabilities, 2)
            probabilities = (straight + ops.flip(mirrored, axis=2)) / 2
        total = total + probabilities
    return (total / len(scales))[:, :height, :width]


def scaled_size(size, scale):
    """[H, W] -> that at a scale, with the corners in place."""
    return [
        ops.cast(ops.round(scale * ops.cast(side - 1, "float32")), "int32") + 1 for side in size
    ]


def pad_to_stride(
    images: KerasTensor, output_stride: int, mean_pixel: tuple[float, float, float]
) -> KerasTensor:
    """[B, H, W, 3] -> [B, H', W', 3], filled with mean_pixel up to a multiple of the stride + 1."""
    margins = [(1 - ops.shape(images)[axis]) % output_stride for axis in (1, 2)]
    margins = [(0, 0), (0, margins[0]), (0, margins[1]), (0, 0)]
    images = ops.cast(images, "float32")
    outside = 1 - ops.pad(ops.ones_like(images[:, :, :, :1]), margins)
    return ops.pad(images, margins) + outside * ops.convert_to_tensor(mean_pixel, dtype="float32")


def class_ids(probabilities: KerasTensor) -> KerasTensor:
    """[B, H, W, C] probabilities -> [B, H, W] uint8, the most probable class of each pixel."""
    return ops.cast(ops.argmax(probabilities, axis=-1), "uint8")
