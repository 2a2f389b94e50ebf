"""Class probabilities for whole images at their own size, over scales and flips (Sec. 4.1)."""

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

    The images are padded at the bottom and the right until each side is a multiple of
    output_stride, plus 1, at every scale, so that features lie exactly on pixels. The result is
    cropped back. Source: the authors' code, which pads all images to one such size, 513.

    Args:
      model: a model of deeplabv3.
      images: uint8 or float.
      output_stride: the model's.
      mean_pixel: the padding.
      scales: multiples of 1/8; probabilities are averaged over them.
      flip: whether to average over the image and its horizontal flip too.
      corners: the model's (corners_of). With "half_pixel" nothing is padded: as in torchvision,
        features are spread over the whole image, whatever its size.
      resize: a replacement for resize_bilinear with the same arguments, for exports.
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    # Flip before padding, so that a flipped image gives the flipped result at any size.
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
        original, flipped = ops.split(probabilities, 2)
        probabilities = (original + ops.flip(flipped, axis=2)) / 2
    return probabilities


def padding_multiple(output_stride: int, scales: Sequence[float]) -> int:
    """The smallest m such that a side of m + 1 is a multiple of the stride, plus 1, at each scale.

    With scales in quarters, 4 output_stride. Raises ValueError for scales that are not multiples
    of 1/8: images would be padded to many times their size.
    """
    if invalid := [scale for scale in scales if not (scale > 0 and float(8 * scale).is_integer())]:
        raise ValueError(f"Scales must be multiples of 1/8, such as 0.5 or 0.75; got {invalid[0]}.")
    return output_stride * math.lcm(*(Fraction(scale).denominator for scale in scales))


def scaled_size(size, scale, *, corners="aligned"):
    """[H, W] -> that at a scale, keeping the corner pixels ("aligned") or the image borders."""
    one = 1 if corners == "aligned" else 0
    sides = [ops.round(scale * ops.cast(side - one, "float32")) + one for side in size]
    return [ops.cast(ops.maximum(side, 1), "int32") for side in sides]


def pad_to_stride(
    images: KerasTensor, output_stride: int, mean_pixel: tuple[float, float, float]
) -> KerasTensor:
    """[B, H, W, 3] -> [B, H', W', 3], padded with mean_pixel to a multiple of the stride + 1."""
    excess = [(ops.shape(images)[axis] - 1) % output_stride for axis in (1, 2)]
    # Not of a negative number: runtimes disagree on its remainder.
    margins = [(output_stride - side) % output_stride for side in excess]
    margins = [(0, 0), (0, margins[0]), (0, margins[1]), (0, 0)]
    images = ops.cast(images, "float32")
    outside = 1 - ops.pad(ops.ones_like(images[:, :, :, :1]), margins)
    return ops.pad(images, margins) + outside * ops.convert_to_tensor(mean_pixel, dtype="float32")


def class_ids(probabilities: KerasTensor) -> KerasTensor:
    """[B, H, W, C] probabilities -> [B, H, W] uint8, the most probable class of each pixel."""
    return ops.cast(ops.argmax(probabilities, axis=-1), "uint8")
