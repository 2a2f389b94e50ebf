"""From a model to class probabilities for whole images, at their own size (Sec. 4.1)."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import keras
from keras import KerasTensor, ops

from model.deeplabv3 import without_upsampling
from model.layers import resize_bilinear


def class_probabilities(
    model: keras.Model,
    images: KerasTensor,
    *,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    corners: str = "aligned",
    resize: Callable[..., KerasTensor] = resize_bilinear,
) -> KerasTensor:
    """[B, H, W, 3] images, RGB in 0..255 -> [B, H, W, C] probabilities, at any H and W.

    The images are padded at the bottom and the right until a side is a multiple of output_stride,
    plus 1, at each of the scales: there features lie exactly on pixels. The result is cut back. If
    flip, the model sees them mirrored too; the result is the mean of the probabilities.
    corners: the model's own (corners_of). With "half_pixel" nothing is padded: as in torchvision,
    features are spread over the whole image, whatever its size.
    resize: takes what resize_bilinear takes, where that is to be done by other operations.
    Source: the authors' code, which pads all images to one such size, 513.
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    # Mirrored before it is padded: so a mirrored image has the mirrored result, at any size.
    views = ops.concatenate([images, ops.flip(images, axis=2)]) if flip else images
    padded = ops.cast(views, "float32")
    if corners == "aligned":
        padded = pad_to_stride(padded, padding_multiple(output_stride, scales), mean_pixel)
    size = ops.shape(padded)[1:3]
    to_logits = without_upsampling(model)
    total = 0.0
    for scale in scales:
        x = padded
        if scale != 1:
            new_size = scaled_size(size, scale, corners=corners)
            x = resize(padded, new_size, corners=corners)
        logits = resize(to_logits(x, training=False), size, corners=corners)
        total = total + ops.softmax(logits)
    probabilities = (total / len(scales))[:, :height, :width]
    if flip:
        straight, mirrored = ops.split(probabilities, 2)
        probabilities = (straight + ops.flip(mirrored, axis=2)) / 2
    return probabilities


def padding_multiple(output_stride: int, scales: Sequence[float]) -> int:
    """The least side, less 1, of which each scale's is a multiple of the stride: 4 for quarters.

    Raises ValueError for scales that are no eighths: images would be padded to many times their
    size.
    """
    if wrong := [scale for scale in scales if not (scale > 0 and float(8 * scale).is_integer())]:
        raise ValueError(f"Scales are multiples of 1/8, as 0.5, 0.75, 1; {wrong[0]} is none.")
    return output_stride * math.lcm(*(Fraction(scale).denominator for scale in scales))


def scaled_size(size, scale, *, corners="aligned"):
    """[H, W] -> that at a scale: with the corners' pixels in place, or the image's borders."""
    one = 1 if corners == "aligned" else 0
    sides = [ops.round(scale * ops.cast(side - one, "float32")) + one for side in size]
    return [ops.cast(ops.maximum(side, 1), "int32") for side in sides]


def pad_to_stride(
    images: KerasTensor, output_stride: int, mean_pixel: tuple[float, float, float]
) -> KerasTensor:
    """[B, H, W, 3] -> [B, H', W', 3], filled with mean_pixel up to a multiple of the stride + 1."""
    over = [(ops.shape(images)[axis] - 1) % output_stride for axis in (1, 2)]
    # Never of a negative number, whose remainder not every runtime takes alike.
    margins = [(output_stride - side) % output_stride for side in over]
    margins = [(0, 0), (0, margins[0]), (0, margins[1]), (0, 0)]
    images = ops.cast(images, "float32")
    outside = 1 - ops.pad(ops.ones_like(images[:, :, :, :1]), margins)
    return ops.pad(images, margins) + outside * ops.convert_to_tensor(mean_pixel, dtype="float32")


def class_ids(probabilities: KerasTensor) -> KerasTensor:
    """[B, H, W, C] probabilities -> [B, H, W] uint8, the most probable class of each pixel."""
    return ops.cast(ops.argmax(probabilities, axis=-1), "uint8")
