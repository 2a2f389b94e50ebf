"""The network without training's parts, to be traced by any format."""

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


class InferenceNetwork(tf.Module):
    """[B, H, W, 3] uint8 images -> [B, H, W, C] float32 probabilities, to be traced by any format.

    Batch norm is folded. Each weight has the precision that its layer computes in. They are
    variables: of constants TensorFlow keeps some twenty copies (docs/export.md).

    Args:
      model: of deeplabv3, at output_stride.
      output_stride, mean_pixel, scales, flip, resize: as class_probabilities has them.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        output_stride: int,
        mean_pixel: tuple[float, float, float],
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        resize: Callable[..., tf.Tensor] = resize_bilinear,
    ):
        super().__init__()
        folded = fold_batch_norm(model)
        layers_of = [(weight, layer) for layer in folded.layers for weight in layer.weights]
        self.weights = [
            tf.Variable(weight.numpy().astype(layer.compute_dtype), trainable=False)
            for weight, layer in layers_of
        ]

        def predict(images):
            values = [variable.read_value() for variable in self.weights]
            replaced = [weight for weight, _ in layers_of]
            with keras.StatelessScope(state_mapping=list(zip(replaced, values, strict=True))):
                return class_probabilities(
                    folded,
                    images,
                    output_stride=output_stride,
                    mean_pixel=mean_pixel,
                    scales=scales,
                    flip=flip,
                    corners=corners_of(model),
                    resize=resize,
                )

        # Not the Keras model itself: its variables would be saved a second time.
        self._predict = predict

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return self._predict(images)


def class_ids(probabilities: tf.Tensor) -> tf.Tensor:
    """model.inference.class_ids in operations that every runtime has; Keras's also check for -0."""
    return tf.cast(tf.argmax(probabilities, axis=-1, output_type=tf.int32), tf.uint8)
