"""The network without training's parts, its weights constants, to be traced by any format."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from model.deeplabv3 import corners_of
from model.fold_batch_norm import fold_batch_norm
from model.inference import class_probabilities
from model.layers import resize_bilinear


def images_spec(size: tuple[int, int] | None) -> tf.TensorSpec:
    """[H, W] of a batch of one, or None for any size and batch -> the input of an artifact."""
    shape = (None, None, None, 3) if size is None else (1, *size, 3)
    return tf.TensorSpec(shape, tf.uint8, name="images")


def freeze(
    model: keras.Model,
    *,
    output_stride: int,
    mean_pixel: tuple[float, float, float],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    resize: Callable[..., tf.Tensor] = resize_bilinear,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A model at output_stride -> a function to be traced, whose weights become constants.

    The function: [B, H, W, 3] uint8 images -> [B, H, W, C] float32 probabilities. A constant has
    the precision that its layer computes in.

    Args:
      model: of deeplabv3, at output_stride.
      output_stride, mean_pixel, scales, flip, resize: as class_probabilities has them.
    """
    model = fold_batch_norm(model)
    values = [
        (weight, weight.numpy().astype(layer.compute_dtype))
        for layer in model.layers
        for weight in layer.weights
    ]

    def probabilities(images):
        constants = [(weight, tf.constant(value)) for weight, value in values]
        with keras.StatelessScope(state_mapping=constants):
            return class_probabilities(
                model,
                images,
                output_stride=output_stride,
                mean_pixel=mean_pixel,
                scales=scales,
                flip=flip,
                corners=corners_of(model),
                resize=resize,
            )

    return probabilities


def class_ids(probabilities: tf.Tensor) -> tf.Tensor:
    """model.inference.class_ids in operations that every runtime has; Keras's also check for -0."""
    return tf.cast(tf.argmax(probabilities, axis=-1, output_type=tf.int32), tf.uint8)
