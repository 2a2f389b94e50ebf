"""MobileNetV2 that stops downsampling at output_stride, as in the authors' deeplab.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, Table 2 and
Sec. 6.3; and the authors' code. There is no last 1x1 conv to 1280 channels.
"""

from typing import NamedTuple

from keras import KerasTensor, layers

from model.layers import conv_bn, depthwise_conv_bn
from model.pixels import SYMMETRIC, Pixels, normalize
from model.plan import stop_downsampling

OUTPUT_STRIDES = (8, 16, 32)
STEM_WIDTH, STEM_STRIDE = 32, 2
# Width at depth multiplier 1, stride and expansion of each unit: Table 2.
UNITS = (
    (16, 1, 1),
    *((24, stride, 6) for stride in (2, 1)),
    *((32, stride, 6) for stride in (2, 1, 1)),
    *((64, stride, 6) for stride in (2, 1, 1, 1)),
    *((96, stride, 6) for stride in (1, 1, 1)),
    *((160, stride, 6) for stride in (2, 1, 1)),
    (320, 1, 6),
)
# The authors' code, for all convolutions. As data: each layer makes its own.
INITIALIZER = {"class_name": "TruncatedNormal", "config": {"stddev": 0.09}}
BATCH_NORM_EPSILON = 1e-3  # The authors' code; in ASPP it is that of ResNets.


class MobileNet(NamedTuple):
    """A MobileNetV2, and the conventions its weights were trained with."""

    depth_multiplier: float  # Every width is multiplied by it, and rounded.
    pixels: Pixels = SYMMETRIC
    aspp_filters: int = 256  # At any depth multiplier. The authors' code.
    # The authors' code: "for Xception / MobileNet-V2 ... 0.00004". Depthwise kernels do not decay.
    weight_decay: float = 4e-5

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """The RGB in 0..255 that is normalized to 0; used for padding."""
        return self.pixels.mean


MOBILENETS = {"mobilenet_v2": MobileNet(1.0), "mobilenet_v2_050": MobileNet(0.5)}


class Unit(NamedTuple):
    """An inverted residual: 1x1 to expanded_width, depthwise 3x3, 1x1 to width."""

    expanded_width: int  # That of its input if there is no first 1x1.
    width: int
    stride: int
    rate: int


def mobilenet_plan(depth_multiplier: float, *, output_stride: int) -> list[Unit]:
    """The units of MobileNetV2, in order, such that the last one ends at output_stride.

    Raises ValueError for another output_stride than 8, 16 or 32.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(
            f"output_stride {output_stride} is not possible with MobileNetV2; choose from "
            f"{', '.join(map(str, OUTPUT_STRIDES))}."
        )
    strides = [stride for _, stride, _ in UNITS]
    atrous = stop_downsampling(strides, stem_stride=STEM_STRIDE, output_stride=output_stride)
    plan, channels = [], scale_width(STEM_WIDTH, depth_multiplier)
    for (full_width, _, expansion), (stride, rate) in zip(UNITS, atrous, strict=True):
        expanded = channels if expansion == 1 else round_width(expansion * channels, divisor=8)
        channels = scale_width(full_width, depth_multiplier)
        plan.append(Unit(expanded, channels, stride, rate))
    return plan


def scale_width(width: int, depth_multiplier: float) -> int:
    """A width at depth multiplier 1 -> that at another, rounded as in the authors' deeplab.

    At 1 to a multiple of 8, otherwise to an integer: keras.applications' 0.5 is another network.
    """
    return round_width(width * depth_multiplier, divisor=8 if depth_multiplier == 1 else 1)


def round_width(width: float, *, divisor: int) -> int:
    """A width -> the nearest multiple of divisor that is not below 0.9 of it. Source: slim."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def mobilenet_convs(network: MobileNet, *, output_stride: int) -> list[tuple[str, int, int, int]]:
    """A network -> (name, kernel size, stride, rate) of its convs that are not 1x1, in order."""
    plan = mobilenet_plan(network.depth_multiplier, output_stride=output_stride)
    units = [(f"unit{i}", 3, unit.stride, unit.rate) for i, unit in enumerate(plan, start=1)]
    return [("conv1", 3, STEM_STRIDE, 1), *units]


def mobilenet(
    images: KerasTensor,
    network: MobileNet,
    *,
    output_stride: int,
    batch_norm_decay: float,
) -> KerasTensor:
    """[B, H, W, 3] RGB in 0..255 -> [B, H / output_stride, W / output_stride, C] features.

    Args:
      images: the network's input; normalized here.
      network: its depth multiplier and conventions; C is 320 times the former, rounded.
      output_stride: of the features: 8, 16 or 32.
      batch_norm_decay: of the moving statistics.

    Raises:
      ValueError: as mobilenet_plan does.
    """
    plan = mobilenet_plan(network.depth_multiplier, output_stride=output_stride)
    conv = {"batch_norm_decay": batch_norm_decay, "weight_decay": network.weight_decay}
    x = normalize(images, network.pixels)
    width = scale_width(STEM_WIDTH, network.depth_multiplier)
    x = linear_conv_bn(x, width, 3, stride=STEM_STRIDE, name="conv1", **conv)
    x = relu6(x, name="conv1_relu")
    for i, unit in enumerate(plan, start=1):
        x = inverted_residual(x, unit, name=f"unit{i}", **conv)
    return x


def inverted_residual(
    x: KerasTensor, unit: Unit, *, batch_norm_decay: float, weight_decay: float, name: str
) -> KerasTensor:
    """1x1, atrous depthwise 3x3, 1x1, and a shortcut: [B, h, w, C] -> [B, h / stride, ..., width].

    The last 1x1 has no ReLU. The shortcut is there where neither the resolution nor the width
    changes.
    """
    conv = {"batch_norm_decay": batch_norm_decay, "weight_decay": weight_decay}
    shortcut = x
    if unit.expanded_width != x.shape[-1]:
        x = linear_conv_bn(x, unit.expanded_width, 1, name=f"{name}_expand", **conv)
        x = relu6(x, name=f"{name}_expand_relu")
    x = depthwise_conv_bn(
        x,
        3,
        stride=unit.stride,
        rate=unit.rate,
        initializer=INITIALIZER,
        batch_norm_decay=batch_norm_decay,
        epsilon=BATCH_NORM_EPSILON,
        name=f"{name}_depthwise",
    )
    x = relu6(x, name=f"{name}_depthwise_relu")
    x = linear_conv_bn(x, unit.width, 1, name=f"{name}_project", **conv)
    if unit.stride == 1 and unit.width == shortcut.shape[-1]:
        return layers.Add(name=f"{name}_out")([shortcut, x])
    return layers.Identity(name=f"{name}_out")(x)  # Every unit's output has such a name.


def linear_conv_bn(x: KerasTensor, filters: int, kernel_size: int, **conv) -> KerasTensor:
    """conv_bn without ReLU, with the authors' initializer and epsilon."""
    how = {"relu": False, "initializer": INITIALIZER, "epsilon": BATCH_NORM_EPSILON}
    return conv_bn(x, filters, kernel_size, **how, **conv)


def relu6(x: KerasTensor, *, name: str) -> KerasTensor:
    """[B, h, w, C] -> min(max(x, 0), 6)."""
    return layers.ReLU(max_value=6, name=name)(x)
