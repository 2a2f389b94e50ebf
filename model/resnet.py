"""ResNet v1 that stops downsampling at output_stride (Sec. 3.1, 3.2, Fig. 3)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from keras import KerasTensor, layers

from model.layers import WEIGHT_DECAY, conv_bn, subsample
from model.pixels import AUTHORS, KERAS, SYMMETRIC, TORCHVISION, Pixels, normalize
from model.plan import stop_downsampling

OUTPUT_STRIDES = (8, 16, 32, 64, 128, 256)


class ResNet(NamedTuple):
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

    @property
    def aspp_filters(self) -> int:
        """The width of ASPP; 256 in the paper."""
        return 4 * self.width

    @property
    def weight_decay(self) -> float:
        """The L2 penalty on kernels."""
        return WEIGHT_DECAY


RESNET50, RESNET101 = (3, 4, 6, 3), (3, 4, 23, 3)
TINY = (1, 1, 2, 3)  # Ours, to train on a CPU. Block4 keeps three units, for multi_grid.
RESNETS = {
    "resnet50": ResNet(RESNET50),
    "resnet101": ResNet(RESNET101),
    "resnet50_beta": ResNet(RESNET50, beta=True, pixels=SYMMETRIC),
    "resnet101_beta": ResNet(RESNET101, beta=True, pixels=SYMMETRIC),
    "resnet50_keras": ResNet(RESNET50, pixels=KERAS),
    "resnet101_keras": ResNet(RESNET101, pixels=KERAS),
    "resnet50_torchvision": ResNet(RESNET50, pixels=TORCHVISION, stride_first=True),
    "resnet101_torchvision": ResNet(RESNET101, pixels=TORCHVISION, stride_first=True),
    "resnet_small": ResNet((2, 2, 2, 3), width=32),  # Ours too.
    "resnet_tiny": ResNet(TINY, width=16),
    "resnet_tiny_shallow": ResNet(
        (1, 1, 1, 3), width=16
    ),  # To resnet_tiny as ResNet-50 is to ResNet-101.
    "resnet_tiny_beta": ResNet(TINY, beta=True, width=16, pixels=SYMMETRIC),
    "resnet_tiny_keras": ResNet(TINY, width=16, pixels=KERAS),
    "resnet_tiny_torchvision": ResNet(TINY, width=16, pixels=TORCHVISION, stride_first=True),
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
    plain = []  # Every unit's stride if the network always downsampled.
    for block, units in enumerate(num_units, start=1):
        halves = block > 1 if stride_first else block < len(num_units)
        strides = [1] * units
        if halves:
            strides[0 if stride_first else -1] = 2
        plain += strides
    # The output stride of Conv1 + Pool1 is 4.
    atrous = iter(stop_downsampling(plain, stem_stride=4, output_stride=output_stride))
    plan = []
    for block, units in enumerate(num_units, start=1):
        unit_rates = multi_grid if block >= 4 else (1,) * units
        of_block = zip(unit_rates, itertools.islice(atrous, units), strict=True)
        plan.append([(stride, rate * unit_rate) for unit_rate, (stride, rate) in of_block])
    return plan


def resnet_convs(
    backbone: str, *, num_blocks: int, output_stride: int, multi_grid: Sequence[int]
) -> list[tuple[str, int, int, int]]:
    """A key of RESNETS -> (name, kernel size, stride, rate) of its layers that are not 1x1.

    In order; the stem's pooling is one of them. Raises ValueError as atrous_plan does.
    """
    beta = RESNETS[backbone].beta
    stem_convs = ((3, 2), (3, 1), (3, 1)) if beta else ((7, 2),)
    convs = [(f"conv1_{i}" if beta else "conv1", *c, 1) for i, c in enumerate(stem_convs, 1)]
    convs.append(("pool1", 3, 2, 1))
    plan = {"num_blocks": num_blocks, "output_stride": output_stride, "multi_grid": multi_grid}
    for block, units in enumerate(resnet_plan(backbone, **plan), start=1):
        for unit, (stride, rate) in enumerate(units, start=1):
            convs.append((f"block{block}_unit{unit}", 3, stride, rate))
    return convs


def resnet_plan(
    backbone: str, *, num_blocks: int, output_stride: int, multi_grid: Sequence[int]
) -> list[list[tuple[int, int]]]:
    """A key of RESNETS and its number of blocks -> its atrous_plan; later blocks copy block4.

    Raises ValueError as atrous_plan does.
    """
    num_units = RESNETS[backbone].num_units
    return atrous_plan(
        num_units + num_units[3:] * (num_blocks - 4),
        output_stride=output_stride,
        multi_grid=multi_grid,
        stride_first=RESNETS[backbone].stride_first,
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
      images: the network's input; normalized here.
      backbone: a key of RESNETS.
      num_blocks: above 4 adds block5 to block7, copies of block4 in cascade (Sec. 3.2). The paper
        does not state their initialization; here it is that of the other blocks.
      output_stride: of the features.
      multi_grid: unit rates of block4 and later.
      batch_norm_decay: of the moving statistics.

    Raises:
      ValueError: as atrous_plan does.
    """
    plan = {"num_blocks": num_blocks, "output_stride": output_stride, "multi_grid": multi_grid}
    plan = resnet_plan(backbone, **plan)
    _, beta, width, pixels, _ = RESNETS[backbone]
    x = normalize(images, pixels)
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
