"""The kernels of MobileNetV2 by our names, and which of our networks weights are of."""

from collections.abc import Mapping

import numpy as np

from model.mobilenet import MOBILENETS, STEM_WIDTH, UNITS, mobilenet_plan, scale_width

# Arguments of deeplabv3 that make the authors' ASPP for MobileNetV2.
NETWORK = {"multi_grid": (1, 1, 1), "atrous_rates": ()}
# Unit and conv of each inverted residual; the first one has no expand.
UNIT_CONVS = [
    (unit, conv)
    for unit in range(1, len(UNITS) + 1)
    for conv in ("expand", "depthwise", "project")
    if (unit, conv) != (1, "expand")
]


def kernel_shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """A key of MOBILENETS -> the shapes of its kernels by layer, in order, without `_conv`."""
    multiplier = MOBILENETS[backbone].depth_multiplier
    channels = scale_width(STEM_WIDTH, multiplier)
    shapes = {"conv1": (3, 3, 3, channels)}
    plan = mobilenet_plan(multiplier, output_stride=32)
    for number, conv in UNIT_CONVS:
        unit = plan[number - 1]
        shapes[f"unit{number}_{conv}"] = {
            "expand": (1, 1, channels, unit.expanded_width),
            "depthwise": (3, 3, unit.expanded_width, 1),
            "project": (1, 1, unit.expanded_width, unit.width),
        }[conv]
        if conv == "project":
            channels = unit.width
    return shapes


def identify_mobilenet(values: Mapping[str, np.ndarray], source: str) -> str:
    """Weights by our names -> their key of MOBILENETS, told from the shapes of their kernels.

    source: whose networks they may be of, for the message. Raises ValueError, which says where the
    most similar one differs, where none fits.
    """
    differing = {}
    for backbone in MOBILENETS:
        there = {
            layer: (values[f"{layer}_conv/kernel"].shape, shape)
            for layer, shape in kernel_shapes(backbone).items()
            if f"{layer}_conv/kernel" in values
        }
        differing[backbone] = [layer for layer, pair in there.items() if pair[0] != pair[1]]
        if there and not differing[backbone]:
            return backbone
    nearest = min(differing, key=lambda backbone: len(differing[backbone]))
    layer = next(iter(differing[nearest]), "conv1")
    theirs = values.get(f"{layer}_conv/kernel", np.zeros(0)).shape
    raise ValueError(
        f"It is not a MobileNetV2 of {source}: its {layer} is of shape {theirs}; that of {nearest} "
        f"is {kernel_shapes(nearest)[layer]}. Narrow networks of slim and keras.applications are "
        "others than deeplab's: their widths are rounded to multiples of 8."
    )
