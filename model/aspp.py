"""Atrous Spatial Pyramid Pooling with image-level features (Sec. 3.3, Fig. 5)."""

from collections.abc import Sequence
from fractions import Fraction

from keras import KerasTensor, layers

from model.layers import WEIGHT_DECAY, ResizeBilinear, conv_bn

DROPOUT = {"paper": 0.1, "torchvision": 0.5}  # The authors' code; the paper states none.
INITIALIZER = "glorot_uniform"  # The authors' code, for layers without ImageNet weights.


def rates_at(output_stride: int, atrous_rates: Sequence[int]) -> list[int]:
    """Rates as stated at output_stride 16 -> those at output_stride that cover the same pixels.

    "The rates are doubled when output_stride = 8" (Sec. 3.3).
    Raises ValueError if a rate would not be an integer.
    """
    if not all(isinstance(rate, int) for rate in atrous_rates):
        raise ValueError(f"atrous_rates must be integers; got {atrous_rates}.")
    rates = [Fraction(16 * rate, output_stride) for rate in atrous_rates]
    if any(rate.denominator != 1 or rate < 1 for rate in rates):
        raise ValueError(
            f"atrous_rates {tuple(atrous_rates)}, stated at output_stride 16, are not integers at "
            f"output_stride {output_stride}."
        )
    return [int(rate) for rate in rates]


def aspp(
    x: KerasTensor,
    *,
    rates: Sequence[int],
    image_pooling: bool,
    filters: int,
    weight_decay: float = WEIGHT_DECAY,
    batch_norm_decay: float,
    head: str = "paper",
) -> KerasTensor:
    """Parallel atrous convolutions at several rates: [B, h, w, C] -> [B, h, w, filters].

    Args:
      x: the features.
      rates: one per atrous branch, at the output_stride of x (rates_at). Empty: no such branches,
        as in the authors' MobileNetV2.
      image_pooling: whether to add the image-level branch.
      filters: of every branch; 256 in the paper.
      weight_decay: of the kernels.
      batch_norm_decay: of the moving statistics.
      head: a key of model.deeplabv3.HEADS; "torchvision" adds a 3x3 conv at the end.
    """
    conv = {"initializer": INITIALIZER, "weight_decay": weight_decay}
    conv["batch_norm_decay"] = batch_norm_decay
    branches = [conv_bn(x, filters, 1, name="aspp_1x1", **conv)]
    for i, rate in enumerate(rates, start=1):
        branches.append(conv_bn(x, filters, 3, rate=rate, name=f"aspp_atrous{i}", **conv))
    if image_pooling:
        branches.append(image_level_features(x, filters, **conv))
    x = layers.Concatenate(name="aspp_concat")(branches)
    x = conv_bn(x, filters, 1, name="aspp_project", **conv)
    x = layers.Dropout(DROPOUT[head], name="aspp_dropout")(x)
    return conv_bn(x, filters, 3, name="aspp_extra", **conv) if head == "torchvision" else x


def image_level_features(x: KerasTensor, filters: int, **conv) -> KerasTensor:
    """One vector per image, broadcast to every pixel: [B, h, w, C] -> [B, h, w, filters].

    Source: Fig. 5 (b).
    """
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    pooled = conv_bn(pooled, filters, 1, name="aspp_pool_1x1", **conv)
    return ResizeBilinear(name="aspp_pool_resize")(pooled, x)
