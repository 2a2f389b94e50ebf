"""The formats of other runtimes: LiteRT (TFLite) and ONNX.

LiteRT: TensorFlow's own converter, the one that takes a TensorFlow function with sides known only
at run time; ai-edge-litert, where the interpreter is kept now, runs what it writes. ONNX: tf2onnx,
whose 1.17 works with numpy 2.4 and TensorFlow 2.21. Keras's model.export(format="onnx") calls it
too, but takes a Keras model, which has neither padding nor argmax.
"""

import hashlib
import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from data.files import write_bytes

OPSET = 18  # Of ONNX; read by onnxruntime from 1.14 on, of 2023.
RESIZE = {"aligned": {"align_corners": True}, "half_pixel": {"half_pixel_centers": True}}


def resize_natively(x: tf.Tensor, size: tuple, *, corners: str) -> tf.Tensor:
    """resize_bilinear by the one operation that LiteRT has for it, in integers too."""
    return tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), **RESIZE[corners])


def images_spec(size: tuple[int, int] | None) -> tf.TensorSpec:
    """[H, W] of a batch of one, or None for any size and batch -> the input of an artefact."""
    shape = (None, None, None, 3) if size is None else (1, *size, 3)
    return tf.TensorSpec(shape, tf.uint8, name="images")


def write_litert(
    segment: Callable[[tf.Tensor], tf.Tensor],
    file: pathlib.Path,
    *,
    size: tuple[int, int] | None,
    precision: str,
    calibration: Iterable[np.ndarray] = (),
) -> None:
    """[B, H, W, 3] uint8 -> [B, H, W] uint8, to be traced with constants -> a .tflite.

    precision: float32; float16, which halves the file; or int8, where calibration's images of
    [H, W, 3] say which range each activation has.
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


def write_onnx(
    segment: Callable[[tf.Tensor], tf.Tensor],
    file: pathlib.Path,
    *,
    size: tuple[int, int] | None,
) -> None:
    """[B, H, W, 3] uint8 -> [B, H, W] uint8, to be traced with constants -> an .onnx."""
    import tf2onnx

    spec = images_spec(size)
    function = tf.function(segment, input_signature=[spec])
    model, _ = tf2onnx.convert.from_function(function, [spec], opset=OPSET)
    pad_explicitly(model)
    name_by_content(model)
    write_bytes(file, model.SerializeToString(deterministic=True))


def pad_explicitly(model: Any) -> None:
    """Says of each convolution of an ONNX model how it is padded, where it said "as large".

    onnxruntime has no "as large" for a rate over 1. All of ours of that kind have stride 1 and an
    odd kernel, hence the same on all sides.
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


def name_by_content(model: Any) -> None:
    """Names and orders all of an ONNX model by what it computes; what is there twice is merged.

    tf2onnx numbers and orders as its sets come, otherwise each time. Of a fixed size it also folds
    constants in one of several ways, which stays so.
    """
    graph = model.graph
    images, class_ids = graph.input[0], graph.output[0]
    content = {"": b"", images.name: b"images"}  # Of each tensor, by its old name.
    constants, nodes, depth = {}, {}, defaultdict(int)
    for constant in graph.initializer:
        name, constant.name = constant.name, ""
        content[name] = _digest(constant.SerializeToString(deterministic=True))
        constants[content[name]] = constant
    for node in graph.node:  # In an order in which inputs come before their use.
        texts = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        inputs = [content[name] for name in node.input]
        key = _digest(node.op_type.encode(), *texts, b"of", *inputs)
        nodes[key] = node
        for i, name in enumerate(node.output):
            content[name] = key if i == 0 else _digest(key, bytes([i]))
            depth[content[name]] = 1 + max((depth[value] for value in inputs), default=0)
    names = {b"": "", b"images": "images"}
    names |= {key: f"constant{i}" for i, key in enumerate(sorted(constants))}
    ordered = sorted(nodes, key=lambda key: (depth[key], key))
    for i, key in enumerate(ordered):
        nodes[key].name = f"{nodes[key].op_type}{i}"
        names |= {content[out]: f"{nodes[key].name}:{j}" for j, out in enumerate(nodes[key].output)}
    names[content[class_ids.name]] = "class_ids"
    for key, constant in constants.items():
        constant.name = names[key]
    for node in nodes.values():
        node.input[:] = [names[content[name]] for name in node.input]
        node.output[:] = [names[content[name]] for name in node.output]
    _replace(graph.initializer, [constants[key] for key in sorted(constants)])
    _replace(graph.node, [nodes[key] for key in ordered])
    del graph.value_info[:]
    graph.doc_string = ""  # It names the traced function, by a number.
    class_ids.name = "class_ids"
    for tensor in (images, class_ids):
        for letter, side in zip("BHW", tensor.type.tensor_type.shape.dim, strict=False):
            if side.dim_param:
                side.dim_param = letter


def _digest(*parts):
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _replace(repeated, values):
    """Puts values into a field of a protocol buffer in place of what is there."""
    kept = [type(value).FromString(value.SerializeToString()) for value in values]
    del repeated[:]
    repeated.extend(kept)
