"""A model -> class ids of whole images: compiled, in batches of equal size, or in pieces."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from model.aspp import rates_at
from model.backbones import receptive_field
from model.deeplabv3 import corners_of, mean_pixel_of, output_stride_of
from model.inference import class_ids, class_probabilities

BATCH_PIXELS = 1_000_000  # Of images predicted together; five images of VOC.
MAX_WAITING = 64  # Images held back until more of their size come.
GRID = 256  # Pixels; a multiple of every output_stride.
# Of a piece with its margins; ResNet-101 takes about 5 GB for it at output_stride 8, 3 GB at 16.
PIECE_SIDE = 11 * GRID
MAX_MARGIN = 4 * GRID  # ResNet-101 with ASPP needs 938; a cascade of seven blocks over twice that.


def make_predictor(
    model: keras.Model,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A model of deeplabv3 -> a compiled function of images.

    The function: [B, H, W, 3] uint8 images -> [B, H, W] class ids. It follows the model's weights
    when they change.

    Args:
      model: of deeplabv3.
      scales: multiples of 1/8; probabilities are averaged over them.
      flip: whether they are also averaged over each image and its horizontal flip.
    """
    output_stride, mean_pixel = output_stride_of(model), mean_pixel_of(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")])
    def predict(images):
        probabilities = class_probabilities(
            model,
            images,
            output_stride=output_stride,
            mean_pixel=mean_pixel,
            scales=scales,
            flip=flip,
            corners=corners_of(model),
        )
        return class_ids(probabilities)

    return predict


def predict_examples(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, Any]],
    *,
    batch_pixels: int = BATCH_PIXELS,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Examples with an image [H, W, 3] -> (example, [H, W] class ids) of each, in another order.

    predict: [B, H, W, 3] -> [B, H, W]. Images of equal size are predicted together, up to
    batch_pixels, which affects the time only.
    """
    for batch in batch_by_size(examples, batch_pixels):
        images = np.stack([example["image"] for example in batch])
        yield from zip(batch, np.asarray(predict(images)), strict=True)


def batch_by_size(
    examples: Iterable[dict[str, Any]], batch_pixels: int
) -> Iterator[list[dict[str, Any]]]:
    """Examples -> batches whose images have one size, of at most batch_pixels in all."""
    waiting = {}
    for example in examples:
        size = example["image"].shape[:2]
        batch = waiting.setdefault(size, [])
        batch.append(example)
        if (len(batch) + 1) * math.prod(size) > batch_pixels:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) > MAX_WAITING:
            yield waiting.pop(next(iter(waiting)))  # The size that has waited longest.
    yield from waiting.values()


def predict_in_pieces(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    *,
    margin: int,
    corners: str = "aligned",
    piece_side: int = PIECE_SIDE,
) -> np.ndarray:
    """[H, W, 3] uint8 image of any size -> [H, W] uint8 class ids, in pieces if it is large.

    Where the margin is as large as prediction_margin, the result equals the whole image's, but for
    image-level features, which are those of the piece with its margin.

    Args:
      predict: [1, h, w, 3] -> [1, h, w], at scale 1.
      image: cut into squares if it has more pixels than a square of piece_side.
      margin: pixels around each square that are predicted with it; at most MAX_MARGIN is used.
      corners: the model's own. With "half_pixel" the result is equal only where the image's sides
        are multiples of the output stride; otherwise features lie a little further apart in the
        whole image than in a piece.
      piece_side: of a square with its margins.
    """
    height, width = image.shape[:2]
    if height * width <= piece_side**2:
        return np.asarray(predict(image[None]))[0]
    # A multiple of the grid, so that features lie on the same pixels as in the whole image.
    margin = min(MAX_MARGIN, -(-margin // GRID) * GRID)
    piece = piece_side - 2 * margin
    one = 1 if corners == "aligned" else 0  # A multiple of the grid, plus 1, is not padded.
    class_ids = np.zeros((height, width), np.uint8)
    for top, left in itertools.product(range(0, height, piece), range(0, width, piece)):
        above, before = max(0, top - margin), max(0, left - margin)
        part = image[above : top + piece + margin + one, before : left + piece + margin + one]
        predicted = np.asarray(predict(part[None]))[0]
        inner = predicted[top - above :, left - before :][:piece, :piece]
        class_ids[top : top + piece, left : left + piece] = inner
    return class_ids


def prediction_margin(
    backbone: str,
    *,
    num_blocks: int,
    output_stride: int,
    multi_grid: Sequence[int],
    atrous_rates: Sequence[int] | None,
    head: str,
    **_,
) -> int:
    """A network's arguments -> how far from a pixel its prediction looks, at most, in pixels.

    Image-level features aside, which see the whole image. Other arguments of deeplabv3 have no part
    in it.
    """
    seen = receptive_field(
        backbone,
        num_blocks=num_blocks,
        output_stride=output_stride,
        multi_grid=multi_grid,
        rates=rates_at(output_stride, atrous_rates or ()),
        head=head,
    )
    # A pixel lies beside the features that it is made of; with half-pixel corners, further away.
    return seen // 2 + output_stride
