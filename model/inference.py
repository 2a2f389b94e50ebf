"""From a model to class probabilities for whole images, at their own size (Sec. 4.1)."""

import keras
from keras import KerasTensor, ops


def class_probabilities(
    model: keras.Model,
    images: KerasTensor,
    *,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
) -> KerasTensor:
    """[B, H, W, 3] images, RGB in 0..255 -> [B, H, W, C] probabilities, at any H and W.

    The images are padded at the bottom and the right to a multiple of output_stride, plus 1,
    where features lie exactly on pixels; the result is cut back. Nothing is resized.
    Source: the authors' code, which pads all images to one such size, 513.
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    padded = pad_to_stride(images, output_stride, mean_pixel)
    probabilities = ops.softmax(model(padded, training=False))
    return probabilities[:, :height, :width]


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
