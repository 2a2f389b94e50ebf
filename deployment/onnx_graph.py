"""The network as an ONNX graph."""

import hashlib
import pathlib
from collections import defaultdict
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
