"""From a model to class probabilities for whole images, at their own size (Sec. 4.1)."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from model.deeplabv3 import without_upsampling
from model.layers import resize_bilinear

# Sec. 4.1, of the evaluation with several scales.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

BATCH_PIXELS = 1_000_000  # Of images predicted together: five of VOC's.
MAX_WAITING = 64  # Images kept until there are more of their size.
GRID = 256  # Pixels; a multiple of every output_stride.
# Of a piece with its margins. ResNet-101 takes about 5 GB for it at output_stride 8, 3 GB at 16.
PART_SIDE = 11 * GRID
MAX_MARGIN = 4 * GRID  # ResNet-101 with ASPP needs 938; a cascade of seven blocks over twice that.


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


def predictions(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, Any]],
    *,
    batch_pixels: int = BATCH_PIXELS,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Examples with an image [H, W, 3] -> (example, [H, W] class ids) of each, in another order.

    predict: [B, H, W, 3] -> [B, H, W]. Images of equal size are predicted together, up to
    batch_pixels, which changes the time it takes and nothing else.
    """
    for batch in equal_sizes(examples, batch_pixels):
        images = np.stack([example["image"] for example in batch])
        yield from zip(batch, np.asarray(predict(images)), strict=True)


def equal_sizes(
    examples: Iterable[dict[str, Any]], batch_pixels: int
) -> Iterator[list[dict[str, Any]]]:
    """Examples -> batches of them whose images are of one size, of at most batch_pixels."""
    waiting = {}
    for example in examples:
        size = example["image"].shape[:2]
        batch = waiting.setdefault(size, [])
        batch.append(example)
        if (len(batch) + 1) * math.prod(size) > batch_pixels:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) > MAX_WAITING:
            yield waiting.pop(next(iter(waiting)))  # What has waited longest.
    yield from waiting.values()


def in_pieces(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    *,
    margin: int,
    corners: str = "aligned",
    part_side: int = PART_SIDE,
) -> np.ndarray:
    """[H, W, 3] uint8 image of any size -> [H, W] uint8 class ids, in pieces if it is large.

    predict: [1, h, w, 3] -> [1, h, w], at scale 1. An image of more pixels than a square of
    part_side is cut into squares, each predicted with a margin around it, MAX_MARGIN at most. Where
    that is as far as a prediction looks, all is equal to the whole image's but for image-level
    features, which are of the piece with its margin. corners: the model's own; with "half_pixel"
    it is so where the image's sides are multiples of the output stride, since at others features
    lie a little further apart in the whole image than in a piece.
    """
    height, width = image.shape[:2]
    if height * width <= part_side**2:
        return np.asarray(predict(image[None]))[0]
    # A multiple of the grid, so that features lie on the same pixels.
    margin = min(MAX_MARGIN, -(-margin // GRID) * GRID)
    piece = part_side - 2 * margin
    one = 1 if corners == "aligned" else 0  # A multiple of the grid, plus 1, is not padded.
    class_ids = np.zeros((height, width), np.uint8)
    for top, left in itertools.product(range(0, height, piece), range(0, width, piece)):
        above, before = max(0, top - margin), max(0, left - margin)
        part = image[above : top + piece + margin + one, before : left + piece + margin + one]
        predicted = np.asarray(predict(part[None]))[0]
        inner = predicted[top - above :, left - before :][:piece, :piece]
        class_ids[top : top + piece, left : left + piece] = inner
    return class_ids
