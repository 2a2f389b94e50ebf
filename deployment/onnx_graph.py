"""The network as an ONNX graph, by tf2onnx.

Keras's model.export(format="onnx") calls tf2onnx too, but takes a Keras model, which has neither
padding nor argmax. Tried: tf2onnx 1.17 with numpy 2.4 and TensorFlow 2.21.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from data.files import write_bytes
from deployment.inference_graph import images_spec

OPSET = 18  # Of ONNX; read by onnxruntime from 1.14 on, of 2023.


def write_onnx(
    segment: Callable[[tf.Tensor], tf.Tensor],
    file: pathlib.Path,
    *,
    size: tuple[int, int] | None,
) -> None:
    """Writes a function of [B, H, W, 3] uint8 -> [B, H, W] uint8, with its weights, as .onnx.

    size: [H, W] of a batch of one; None for any size and batch.
    """
    import tf2onnx

    spec = images_spec(size)

    @tf.function(input_signature=[spec])
    def named(images):
        return {"class_ids": segment(images)}

    model, _ = tf2onnx.convert.from_function(named, [spec], opset=OPSET)
    pad_explicitly(model)
    write_bytes(file, model.SerializeToString())


def pad_explicitly(model: Any) -> None:
    """Gives each convolution of an ONNX model explicit pads where it said SAME (auto_pad).

    onnxruntime does not support SAME for a rate over 1. All convolutions of that kind here have
    stride 1 and an odd kernel, hence equal pads on all sides.
    """
    import onnx

    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "auto_pad" not in attributes or attributes["auto_pad"].s != b"SAME_UPPER":
            continue
        sides = zip(attributes["kernel_shape"].ints, attributes["dilations"].ints, strict=True)
        pads = [size // 2 * rate for size, rate in sides]
        node.attribute.remove(attributes["auto_pad"])
        node.attribute.append(onnx.helper.make_attribute("pads", pads + pads))
