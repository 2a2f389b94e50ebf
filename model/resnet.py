"""ResNet v1 that stops downsampling at output_stride (Sec. 3.1, 3.2, Fig. 3)."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import KerasTensor, layers, ops

from model.layers import conv_bn, subsample

OUTPUT_STRIDES = (8, 16, 32, 64, 128, 256)


class Pixels(NamedTuple):
    """How pixels are normalized: (RGB in 0..255 - mean) / std, then perhaps reordered to BGR.

    It belongs to the weights: they were trained on pixels normalized this way.
    """

    mean: tuple[float, float, float]  # RGB.
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # RGB.
    bgr: bool = False


AUTHORS = Pixels((123.15, 115.90, 103.06))  # The authors' code, for a 7x7 stem; slim's too.
AUTHORS_BETA = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))  # The authors' code.
KERAS = Pixels((123.68, 116.779, 103.939), bgr=True)  # keras.applications.
TORCHVISION = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # torchvision, times 255.


class Backbone(NamedTuple):
    """A member of the ResNet family, and the conventions its weights were trained with."""

    num_units: tuple[int, int, int, int]  # Of block1 to block4.
    beta: bool = False  # A stem of three 3x3 convs instead of one 7x7.
    width: int = 64  # Filters of the stem; every other width is in proportion.
    pixels: Pixels = AUTHORS
    stride_first: bool = False  # In a block's first unit, not the previous block's last: "v1.5".

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """The RGB in 0..255 that is normalized to 0; used for padding."""
        return self.pixels.mean


RESNET50, RESNET101 = (3, 4, 6, 3), (3, 4, 23, 3)
TINY = (1, 1, 2, 3)  # Ours, to train on a CPU. Block4 keeps three units, for multi_grid.
BACKBONES = {
    "resnet50": Backbone(RESNET50),
    "resnet101": Backbone(RESNET101),
    "resnet50_beta": Backbone(RESNET50, beta=True, pixels=AUTHORS_BETA),
    "resnet101_beta": Backbone(RESNET101, beta=True, pixels=AUTHORS_BETA),
    "resnet50_keras": Backbone(RESNET50, pixels=KERAS),
    "resnet101_keras": Backbone(RESNET101, pixels=KERAS),
    "resnet50_torchvision": Backbone(RESNET50, pixels=TORCHVISION, stride_first=True),
    "resnet101_torchvision": Backbone(RESNET101, pixels=TORCHVISION, stride_first=True),
    "resnet_small": Backbone((2, 2, 2, 3), width=32),  # Ours too.
    "resnet_tiny": Backbone(TINY, width=16),
    "resnet_tiny_shallow": Backbone(
        (1, 1, 1, 3), width=16
    ),  # To resnet_tiny as ResNet-50 is to ResNet-101.
    "resnet_tiny_beta": Backbone(TINY, beta=True, width=16, pixels=AUTHORS_BETA),
    "resnet_tiny_keras": Backbone(TINY, width=16, pixels=KERAS),
    "resnet_tiny_torchvision": Backbone(TINY, width=16, pixels=TORCHVISION, stride_first=True),
}


def atrous_plan(
    num_units: Sequence[int],
    *,
    output_stride: int,
    multi_grid: Sequence[int],
    stride_first: bool = False,
) -> list[list[tuple[int, int]]]:
    """Units per block -> the (stride, rate) of every unit, block by block, as in Fig. 3.

    The last unit of every block but the last halves the resolution; if stride_first, the first
    unit of every block but the first does. Where that would exceed output_stride, the unit keeps
    its resolution and rate, and all later rates double instead. From block4 on, a unit's rate is
    also multiplied by its own of multi_grid (Sec. 3.2.1).

    Args:
      num_units: of each block, from block1 on.
      output_stride: of the last block's output.
      multi_grid: unit rates of block4 and later, one per unit.
      stride_first: whether the stride is in a block's first unit ("v1.5").

    Raises:
      ValueError: the blocks cannot reach output_stride, or the length of multi_grid is not the
        number of units in a block.
    """
    check_output_stride(output_stride, num_blocks=len(num_units))
    for block, units in enumerate(num_units[3:], start=4):
        if units != len(multi_grid):
            raise ValueError(
                f"multi_grid {tuple(multi_grid)} has {len(multi_grid)} rates, but block{block} has "
                f"{units} units; give one rate for each unit."
            )
    plan, current_stride, rate = [], 4, 1  # The output stride of Conv1 + Pool1 is 4.
    for block, units in enumerate(num_units, start=1):
        unit_rates = multi_grid if block >= 4 else (1,) * units
        halves = block > 1 if stride_first else block < len(num_units)
        halving_unit = (0 if stride_first else units - 1) if halves else None
        units_of_block = []
        for unit, unit_rate in enumerate(unit_rates):
            stride, block_rate = 1, rate
            if unit == halving_unit and current_stride < output_stride:
                stride, current_stride = 2, 2 * current_stride
            elif unit == halving_unit:
                rate *= 2  # From the next unit on; this one keeps the old rate.
            units_of_block.append((stride, block_rate * unit_rate))
        plan.append(units_of_block)
    return plan


class Window(NamedTuple):
    """A layer that reads more than one pixel of its input: a conv, or the stem's pooling."""

    name: str
    kernel_size: int
    stride: int
    rate: int
    input_stride: int  # Image pixels between neighboring pixels of its input.
    receptive_field: int  # Side, in image pixels, of the square that one output depends on.


def windows(
    backbone: str,
    *,
    num_blocks: int,
    output_stride: int,
    multi_grid: Sequence[int],
    rates: Sequence[int] = (),
    head: str = "paper",
) -> list[Window]:
    """A backbone, and ASPP's rates at output_stride -> its windows in order, the head's last.

    Source: ours, from the plan. A conv widens the receptive field by (kernel_size - 1) rate pixels
    of its input.

    Args:
      backbone: a key of BACKBONES.
      num_blocks: 4 to 7.
      output_stride: of the features.
      multi_grid: unit rates of block4 and later.
      rates: ASPP's, at output_stride; empty without ASPP.
      head: a key of model.deeplabv3.HEADS.

    Raises:
      ValueError: as atrous_plan does.
    """
    beta = BACKBONES[backbone].beta
    stem_convs = ((3, 2), (3, 1), (3, 1)) if beta else ((7, 2),)
    convs = [(f"conv1_{i}" if beta else "conv1", *c, 1) for i, c in enumerate(stem_convs, 1)]
    convs.append(("pool1", 3, 2, 1))
    plan = {"num_blocks": num_blocks, "output_stride": output_stride, "multi_grid": multi_grid}
    for block, units in enumerate(backbone_plan(backbone, **plan), start=1):
        for unit, (stride, rate) in enumerate(units, start=1):
            convs.append((f"block{block}_unit{unit}", 3, stride, rate))
    found, size, jump = [], 1, 1
    for name, kernel_size, stride, rate in convs:
        size += (kernel_size - 1) * rate * jump
        found.append(Window(name, kernel_size, stride, rate, jump, size))
        jump *= stride
    for i, rate in enumerate(rates, start=1):  # In parallel, all on the same features.
        found.append(Window(f"aspp_atrous{i}", 3, 1, rate, jump, size + 2 * rate * jump))
    if head == "torchvision":
        size = max(window.receptive_field for window in found) + 2 * jump
        found.append(Window("aspp_extra", 3, 1, 1, jump, size))
    return found


def receptive_field(backbone: str, *, output_stride: int, **plan) -> int:
    """The arguments of windows -> side, in pixels, of the square that a logit depends on.

    Without image-level features, which depend on the whole image.
    """
    sizes = [w.receptive_field for w in windows(backbone, output_stride=output_stride, **plan)]
    return max(sizes) + output_stride  # Upsampling interpolates between two logits.


def backbone_plan(
    backbone: str, *, num_blocks: int, output_stride: int, multi_grid: Sequence[int]
) -> list[list[tuple[int, int]]]:
    """A key of BACKBONES and its number of blocks -> its atrous_plan; later blocks copy block4.

    Raises ValueError for an unknown backbone, and as atrous_plan does.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"No backbone {backbone!r}; there are {', '.join(BACKBONES)}.")
    num_units = BACKBONES[backbone].num_units
    return atrous_plan(
        num_units + num_units[3:] * (num_blocks - 4),
        output_stride=output_stride,
        multi_grid=multi_grid,
        stride_first=BACKBONES[backbone].stride_first,
    )


def check_output_stride(output_stride: int, *, num_blocks: int) -> None:
    """Raises ValueError if num_blocks blocks cannot end at output_stride."""
    possible = [s for s in OUTPUT_STRIDES if s <= 2 ** (num_blocks + 1)]
    if output_stride not in possible:
        raise ValueError(
            f"output_stride {output_stride} is not possible with {num_blocks} blocks; choose from "
            f"{', '.join(map(str, possible))}."
        )


def resnet(
    images: KerasTensor,
    backbone: str,
    *,
    num_blocks: int = 4,
    output_stride: int,
    multi_grid: Sequence[int],
    batch_norm_decay: float,
) -> KerasTensor:
    """[B, H, W, 3] RGB in 0..255 -> [B, H / output_stride, W / output_stride, 32 width] features.

    Args:
      images: the network's input; normalized here (Pixels).
      backbone: a key of BACKBONES.
      num_blocks: above 4 adds block5 to block7, copies of block4 in cascade (Sec. 3.2). The paper
        does not state their initialization; here it is that of the other blocks.
      output_stride: of the features.
      multi_grid: unit rates of block4 and later.
      batch_norm_decay: of the moving statistics.

    Raises:
      ValueError: the backbone is unknown, or as atrous_plan does.
    """
    plan = {"num_blocks": num_blocks, "output_stride": output_stride, "multi_grid": multi_grid}
    plan = backbone_plan(backbone, **plan)
    _, beta, width, pixels, _ = BACKBONES[backbone]
    x = layers.Rescaling(
        scale=[1 / std for std in pixels.std],
        offset=[-mean / std for mean, std in zip(pixels.mean, pixels.std, strict=True)],
        dtype="float32",  # Half precision would round the pixels.
        name="pixels",
    )(images)
    if pixels.bgr:
        x = ops.flip(x, axis=-1)
    x = stem(x, width, beta=beta, batch_norm_decay=batch_norm_decay)
    for block, units in enumerate(plan, start=1):
        for unit, (stride, rate) in enumerate(units, start=1):
            name = f"block{block}_unit{unit}"
            x = bottleneck(
                x,
                width * 2 ** min(block - 1, 3),
                stride=stride,
                rate=rate,
                batch_norm_decay=batch_norm_decay,
                name=name,
                # A block's output has a name that does not depend on its number of units.
                output_name=f"block{block}_out" if unit == len(units) else f"{name}_out",
            )
    return x


def stem(x: KerasTensor, width: int, *, beta: bool, batch_norm_decay: float) -> KerasTensor:
    """Conv1 + Pool1 of Fig. 3: [B, H, W, 3] -> [B, H / 4, W / 4, width], or 2 width with beta.

    beta: three 3x3 convs instead of the 7x7. The paper does not say which it used; its published
    multiply-adds fit the three (derived). Source of both stems: the authors' code.
    """
    convs = ((width, 3, 2), (width, 3, 1), (2 * width, 3, 1)) if beta else ((width, 7, 2),)
    for i, (filters, kernel_size, stride) in enumerate(convs, start=1):
        name = f"conv1_{i}" if beta else "conv1"
        x = conv_bn(
            x, filters, kernel_size, stride=stride, batch_norm_decay=batch_norm_decay, name=name
        )
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # After a ReLU, 0 never wins the maximum.
    return layers.MaxPooling2D(3, 2, name="pool1")(x)


def bottleneck(
    x: KerasTensor,
    filters: int,
    *,
    stride: int,
    rate: int,
    batch_norm_decay: float,
    name: str,
    output_name: str,
) -> KerasTensor:
    """1x1, atrous 3x3, 1x1, and a shortcut: [B, h, w, C] -> [B, h / stride, ..., 4 filters].

    The 3x3 has the stride. In a block's last unit this gives the same result as He et al.'s stride
    in the next unit's first 1x1, but is cheaper. Source: "the last convolution contains stride 2"
    (Sec. 3.2), the authors' code.
    """
    decay = {"batch_norm_decay": batch_norm_decay}
    shortcut = x
    if x.shape[-1] != 4 * filters:
        shortcut = conv_bn(x, 4 * filters, 1, stride=stride, relu=False, name=f"{name}_0", **decay)
    elif stride > 1:
        shortcut = subsample(x, stride, name=f"{name}_0_subsample")
    x = conv_bn(x, filters, 1, name=f"{name}_1", **decay)
    x = conv_bn(x, filters, 3, stride=stride, rate=rate, name=f"{name}_2", **decay)
    x = conv_bn(x, 4 * filters, 1, relu=False, name=f"{name}_3", **decay)
    return layers.ReLU(name=output_name)(layers.Add(name=f"{name}_add")([shortcut, x]))
