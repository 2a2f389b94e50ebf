"""The network as a LiteRT flatbuffer: float32, float16 or int8.

By TensorFlow's own converter, which accepts a function whose sides are known only at run time;
ai-edge-litert, the interpreter's new home, runs its output.
"""

import pathlib
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from data.files import write_bytes
from deployment.inference_graph import images_spec

RESIZE = {"aligned": {"align_corners": True}, "half_pixel": {"half_pixel_centers": True}}


def resize_natively(x: tf.Tensor, size: tuple, *, corners: str) -> tf.Tensor:
    """resize_bilinear by LiteRT's own operation, which also computes in integers."""
    return tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), **RESIZE[corners])


def write_litert(
    segment: Callable[[tf.Tensor], tf.Tensor],
    file: pathlib.Path,
    *,
    size: tuple[int, int] | None,
    precision: str,
    calibration: Iterable[np.ndarray] = (),
) -> None:
    """Writes a function of [B, H, W, 3] uint8 -> [B, H, W] uint8, with its weights, as .tflite.

    Args:
      segment: the function, to be traced.
      file: the .tflite.
      size: [H, W] of a batch of one; None for any size and batch.
      precision: float32; float16, which halves the file; or int8.
      calibration: [H, W, 3] images from which int8 takes the range of each activation.
    """

    @tf.function(input_signature=[images_spec(size)])
    def named(images):
        return {"class_ids": segment(images)}

    function = named.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    write_bytes(file, converter.convert())
