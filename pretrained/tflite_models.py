"""The authors' MobileNetV2s from TFLite files, float or quantized, as weights under our names.

In these files batch norm is folded into the convolutions. It is put back as one that changes
nothing: mean 0, variance 1, gamma sqrt(1 + epsilon), and the convolution's bias as beta.
"""

import itertools
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from data.terminal import first_line
from model.layers import BATCH_NORM_EPSILON as ASPP_EPSILON
from model.mobilenet import BATCH_NORM_EPSILON, MOBILENETS, mobilenet_plan
from pretrained.mobilenet_weights import NETWORK, kernel_shapes
from pretrained.weights import Weights

SUFFIXES = (".tflite",)
IDENTIFIER = b"TFL3"  # Bytes 4 to 7 of every such file.
OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
CONVOLUTIONS = {
    "CONV_2D": schema.Conv2DOptions,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
}
ARITHMETIC = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide}
LARGEST_PIXEL = 1.1  # Of -1..1, with a margin for rounding.
POOLING = ("AVERAGE_POOL_2D", "MEAN")
TYPES = {  # Of the tensors that are read.
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
SUPPORTED = "Convert the network to float32, or to int8 or uint8 with quantized activations."


class Tensor(NamedTuple):
    """A tensor of the graph, as the file has it."""

    name: str
    type: int  # Of schema.TensorType.
    values: np.ndarray | None  # Of a constant.
    scale: np.ndarray  # Of quantized values, in all or per channel; else empty.
    zero_point: np.ndarray
    axis: int  # Of the channels.


class Operator(NamedTuple):
    """An operator of the graph, in the order of execution."""

    name: str  # A value of OPERATORS.
    inputs: tuple[int, ...]  # Tensors; the first is what flows through the network.
    output: int
    stride: int
    rate: int


class Conv(NamedTuple):
    """A convolution of the graph, in floats."""

    operator: Operator
    kernel: np.ndarray  # [h, w, C, filters], or [h, w, C, 1] of a depthwise one.
    bias: np.ndarray
    names: tuple[str, str]  # Of both in the file.


def from_tflite(file: pathlib.Path) -> Weights:
    """A .tflite of MobileNetV2, or of deeplab with it -> its weights by our names.

    The graph says which convolution is which; the names of its tensors do not matter. A
    classification network's own layers are left out. Raises ValueError where the file is damaged,
    of another network, of other pixels than -1..1, as far as it says, or of another precision than
    float32 and full integers.
    """
    tensors, operators = read_graph(file.read_bytes())
    convs = [read_conv(op, tensors, operators) for op in operators if op.name in CONVOLUTIONS]
    backbone = identify_network(convs)
    layers = list(kernel_shapes(backbone))
    named = dict(zip(layers, convs, strict=False))
    check_pixels(named["conv1"], tensors, operators)
    others = convs[len(layers) :]
    model = {"backbone": backbone, **NETWORK}
    rolled = ()
    if any(op.name == "CONCATENATION" for op in operators):
        head, pooling_first = find_head(operators, others, features=named[layers[-1]])
        if pooling_first:  # In the concatenation; ours has it last.
            kernel, project = head["aspp_project"].kernel, head["aspp_project"]
            filters = len(head["aspp_pool_1x1"].bias)
            rolled = ("aspp_project_conv/kernel",)
            head["aspp_project"] = project._replace(kernel=np.roll(kernel, -filters, axis=2))
        model |= {
            "num_classes": len(head["logits"].bias),
            "num_blocks": 4,
            "output_stride": find_output_stride(backbone, convs[: len(layers)], operators),
            "image_pooling": True,
            "head": "paper",
        }
        named, others = {**named, **head}, []
    weights = name_weights(named)
    return weights._replace(
        model=model,
        folded=tuple(sorted({*weights.folded, *rolled})),
        skipped=tuple(itertools.chain.from_iterable(conv.names for conv in others)),
    )


def read_graph(data: bytes) -> tuple[list[Tensor], list[Operator]]:
    """A file's bytes -> tensors and operators. Raises ValueError where it is damaged."""
    if data[4:8] != IDENTIFIER:
        raise ValueError("it is damaged, or not a TFLite file. Fetch it again.")
    try:
        model = schema.Model.GetRootAsModel(data, 0)
        graph = model.Subgraphs(0)
        tensors = [_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength())]
        operators = [_operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength())]
        for index in itertools.chain.from_iterable((*op.inputs, op.output) for op in operators):
            tensors[index]  # noqa: B018 (an IndexError where there is none)
    except (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise ValueError(f"it is damaged or incomplete. Fetch it again. ({first_line(e)})") from e
    return tensors, operators


def _tensor(model, tensor):
    buffer = model.Buffers(tensor.Buffer())
    values, dtype = None, TYPES.get(tensor.Type())
    if buffer.DataLength() and dtype:
        shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype).reshape(shape)
    quantization = tensor.Quantization()
    scale = zero_point = np.zeros(0)
    if quantization and quantization.ScaleLength():
        scale, zero_point = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
    axis = quantization.QuantizedDimension() if quantization else 0
    return Tensor(tensor.Name().decode(), tensor.Type(), values, scale, zero_point, axis)


def _operator(model, operator):
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files have the code in the field that is deprecated now.
    name = OPERATORS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
    stride = rate = 1
    if name in CONVOLUTIONS:
        options, table = CONVOLUTIONS[name](), operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        stride, rate = options.StrideH(), options.DilationHFactor()
    inputs = tuple(int(i) for i in operator.InputsAsNumpy() if i >= 0)  # Below 0: left out.
    return Operator(name, inputs, int(operator.OutputsAsNumpy()[0]), stride, rate)


def read_conv(operator: Operator, tensors: Sequence[Tensor], operators: Sequence[Operator]) -> Conv:
    """A convolution of the graph -> the same in floats.

    Raises ValueError where its weights are in float16, or are integers while its input is not.
    """
    source, kernel, *bias = (tensors[index] for index in operator.inputs)
    if kernel.values is None:
        made_by = {op.output: op for op in operators}.get(operator.inputs[1])
        half = made_by and tensors[made_by.inputs[0]].type == schema.TensorType.FLOAT16
        kind = "weights in float16" if half else "weights that are no constants of a known type"
        raise ValueError(f"It has {kind}, which are not supported. {SUPPORTED}")
    if source.type == schema.TensorType.FLOAT32 != kernel.type:
        raise ValueError(
            "It is quantized in its weights alone (dynamic range), which is not supported. "
            f"{SUPPORTED}"
        )
    # Filters first of a convolution, last of a depthwise one, which has a 1 in their place.
    values = dequantize(kernel).transpose(1, 2, 3, 0)
    filters = values.shape[2 if operator.name == "DEPTHWISE_CONV_2D" else 3]
    bias_values = dequantize(bias[0]) if bias else np.zeros(filters, np.float32)
    names = (kernel.name, bias[0].name if bias else f"{kernel.name} (no bias)")
    return Conv(operator, values, bias_values, names)


def dequantize(tensor: Tensor) -> np.ndarray:
    """A constant -> its values in float32: those of the file, or (value - zero point) scale."""
    if tensor.values is None or not (tensor.scale.size or tensor.values.dtype == np.float32):
        raise ValueError(f"{tensor.name} has no values, or integers without a scale. {SUPPORTED}")
    if tensor.values.dtype == np.float32:
        return tensor.values
    shape = [1] * tensor.values.ndim
    if tensor.scale.size > 1:
        shape[tensor.axis] = -1
    scale, zero = (
        np.reshape(np.asarray(each, np.float64), shape if each.size > 1 else [1] * len(shape))
        for each in (tensor.scale, tensor.zero_point)
    )
    return ((tensor.values - zero) * scale).astype(np.float32)


def identify_network(convs: Sequence[Conv]) -> str:
    """A graph's convolutions -> the key of MOBILENETS that it begins with.

    Raises ValueError, which says where the most similar one differs, for another network.
    """
    differences = {}
    for backbone in MOBILENETS:
        shapes = kernel_shapes(backbone)
        theirs = [conv.kernel.shape for conv in convs[: len(shapes)]]
        alike = [a == b for a, b in zip(theirs, shapes.values(), strict=False)]
        if len(alike) == len(shapes) and all(alike):
            return backbone
        differences[backbone] = alike.index(False) if False in alike else len(alike)
    nearest = max(differences, key=differences.get)
    place = differences[nearest]
    layer, shape = list(kernel_shapes(nearest).items())[place]
    there = f"of shape {convs[place].kernel.shape}" if place < len(convs) else "missing"
    raise ValueError(
        f"It is not the authors' MobileNetV2 of depth multiplier 1 or 0.5: of its {len(convs)} "
        f"convolutions, number {place + 1} is {there}; {nearest} has {shape} there ({layer})."
    )


def check_pixels(conv: Conv, tensors: Sequence[Tensor], operators: Sequence[Operator]) -> None:
    """The first convolution of a graph -> ValueError where its pixels are not in -1..1.

    A quantized file has their range, and a graph that normalizes them itself has the arithmetic.
    Others do not say it. The range may be smaller: converters measure it on some images.
    """
    source = tensors[conv.operator.inputs[0]]
    dtype = np.dtype(TYPES.get(source.type, np.float32))
    path = _path_back(conv.operator.inputs[0], {op.output: op for op in operators})
    arithmetic = [op for op in reversed(path) if op.name in ARITHMETIC]
    if source.scale.size and dtype.kind != "f":
        limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max])
        values = (limits - source.zero_point[0]) * source.scale[0]
    elif arithmetic:
        values = np.array([[0.0], [255.0]])
        for op in arithmetic:
            constants = (tensors[index].values for index in op.inputs)
            values = ARITHMETIC[op.name](*(values if c is None else c for c in constants))
    else:
        return
    low, high = values.min(), values.max()
    if not (-LARGEST_PIXEL < low < 0 < high < LARGEST_PIXEL):
        raise ValueError(
            f"Its pixels are normalized to {low:.2f}..{high:.2f}, and those of the authors' "
            "MobileNetV2 to -1..1: weights for other pixels are not supported."
        )


def find_head(
    operators: Sequence[Operator], head: Sequence[Conv], *, features: Conv
) -> tuple[dict[str, Conv], bool]:
    """A backbone's last convolution, and those behind it -> by our layer; is pooling first?

    First in the concatenation. Raises ValueError where they are not the authors' ASPP of image
    pooling and a 1x1 convolution.
    """
    makers = {op.output: op for op in operators}
    concatenations = [op for op in operators if op.name == "CONCATENATION"]
    found, branches = {}, {}
    for conv in head:
        path = _path_back(conv.operator.inputs[0], makers)
        if path and path[-1] == features.operator:
            pooled = any(op.name in POOLING for op in path)
            layer = "aspp_pool_1x1" if pooled else "aspp_1x1"
            branches[conv.operator.output] = layer
        else:
            layer = "aspp_project" if path and path[-1].name == "CONCATENATION" else "logits"
        found[layer] = conv
    ends = [_path_back(tensor, makers) for tensor in concatenations[0].inputs]
    order = [branches.get(path[-1].output) if path else None for path in ends]
    sizes = ["{} x {}".format(*conv.kernel.shape[:2]) for conv in head]
    if (
        len(concatenations) != 1
        or sizes != ["1 x 1"] * 4
        or found.keys() != {"aspp_pool_1x1", "aspp_1x1", "aspp_project", "logits"}
        or None in order
        or len({*order}) != 2
    ):
        raise ValueError(
            "Its head is not the authors' for MobileNetV2, which has four 1 x 1 convolutions: of "
            "the features, of their mean, of both concatenated, and the classifier. It has "
            f"{len(concatenations)} concatenations, and convolutions of {', '.join(sizes)}."
        )
    return found, order[0] == "aspp_pool_1x1"


def _path_back(tensor, makers):
    """A tensor -> the operators that made it, from the last back to a conv or a concatenation."""
    path = []
    while tensor in makers and len(path) < len(makers):
        path.append(makers[tensor])
        if path[-1].name in (*CONVOLUTIONS, "CONCATENATION"):
            break
        tensor = path[-1].inputs[0] if path[-1].inputs else None
    return path


def find_output_stride(backbone: str, convs: Sequence[Conv], operators: Sequence[Operator]) -> int:
    """A backbone's convolutions -> its output stride.

    Raises ValueError where strides or rates are not those of the authors' network at that stride.
    """
    of_units = [conv.operator for conv in convs if conv.operator.name == "DEPTHWISE_CONV_2D"]
    strides = [convs[0].operator.stride, *(op.stride for op in of_units)]
    output_stride = int(np.prod(strides))
    plan = mobilenet_plan(MOBILENETS[backbone].depth_multiplier, output_stride=output_stride)
    # Old converters write a rate as operators around a convolution of rate 1.
    around = any(op.name == "SPACE_TO_BATCH_ND" for op in operators)
    rates = [op.rate for op in of_units]
    if strides[1:] != [unit.stride for unit in plan] or not (
        around or rates == [unit.rate for unit in plan]
    ):
        raise ValueError(
            f"Its strides {strides} and rates {rates} are not those of the authors' MobileNetV2 at "
            f"output_stride {output_stride}."
        )
    return output_stride


def name_weights(convs: Mapping[str, Conv]) -> Weights:
    """Convolutions by our layer -> their weights, with a batch norm that changes nothing."""
    values: dict[str, Any] = {}
    source_names, folded = {}, []
    for layer, conv in convs.items():
        if layer == "logits":
            names = ("logits/kernel", "logits/bias")
        else:
            epsilon = ASPP_EPSILON if layer.startswith("aspp") else BATCH_NORM_EPSILON
            ones = np.ones_like(conv.bias)
            norm = {
                f"{layer}_bn/gamma": ones * np.float32(np.sqrt(1 + epsilon)),
                f"{layer}_bn/moving_mean": 0 * ones,
                f"{layer}_bn/moving_variance": ones,
            }
            values |= norm
            folded += [*norm, f"{layer}_bn/beta"]
            names = (f"{layer}_conv/kernel", f"{layer}_bn/beta")
        values |= dict(zip(names, (conv.kernel, conv.bias), strict=True))
        source_names |= dict(zip(names, conv.names, strict=True))
    return Weights(values, source_names=source_names, folded=tuple(folded))
