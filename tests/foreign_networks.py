"""Names and shapes of other people's networks, as their files have them, and random values.

The values of a name and a shape are always the same, so that what a library made of them once
(tests/golden/) can be compared with what we make of them now.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), "tiny": (1, 1, 2, 3)}
WIDTHS = {50: 64, 101: 64, "tiny": 16}
TF1_KINDS = ("gamma", "beta", "moving_mean", "moving_variance")
TORCH_KINDS = ("weight", "bias", "running_mean", "running_var")
ASPP = ("aspp0", "aspp1", "aspp2", "aspp3")


def random_values(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Names and shapes -> values, batch norm's statistics too, that keep activations in bounds."""
    return {name: _random(name, tuple(shape)) for name, shape in shapes.items()}


def _random(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if not shape:
        return np.zeros(shape, np.int64)  # A count of batches, or a step.
    if name.endswith("/mean_rgb"):
        return np.array([123.15163, 115.90288, 103.06262], np.float32)  # slim's.
    if len(shape) > 1:
        inputs = shape[1:] if name.endswith(".weight") else shape[:-1]  # PyTorch: filters first.
        values = rng.normal(size=shape, scale=np.sqrt(2 / np.prod(inputs)))
        if shape[-2] == 3 and not name.endswith(".weight"):
            values /= 64  # Their pixels are in the hundreds.
    elif name.endswith(("moving_variance", "running_var")):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("gamma", ".weight")):
        last = name.endswith(("_3_bn/gamma", "conv3/BatchNorm/gamma", "bn3.weight"))
        values = rng.uniform(0.5, 1.5, shape) * (0.3 if last else 1)  # Of a unit's sum.
    else:
        values = rng.normal(size=shape, scale=0.2)
    return values.astype(np.float32)


def torchvision_shapes(
    depth: int | str, num_classes: int | None = None
) -> dict[str, tuple[int, ...]]:
    """A key of UNITS -> a state_dict of torchvision's resnet, or of deeplabv3 if num_classes."""
    shapes, width = {}, WIDTHS[depth]

    def conv_bn(conv, bn, filters, channels, size):
        shapes[f"{conv}.weight"] = (filters, channels, size, size)
        shapes.update({f"{bn}.{kind}": (filters,) for kind in TORCH_KINDS})
        shapes[f"{bn}.num_batches_tracked"] = ()

    prefix = "backbone." if num_classes else ""
    conv_bn(f"{prefix}conv1", f"{prefix}bn1", width, 3, 7)
    channels = width
    for block, units in enumerate(UNITS[depth]):
        filters = width * 2**block
        for unit in range(units):
            name = f"{prefix}layer{block + 1}.{unit}"
            conv_bn(f"{name}.conv1", f"{name}.bn1", filters, channels, 1)
            conv_bn(f"{name}.conv2", f"{name}.bn2", filters, filters, 3)
            conv_bn(f"{name}.conv3", f"{name}.bn3", 4 * filters, filters, 1)
            if unit == 0:
                down = f"{name}.downsample"
                conv_bn(f"{down}.0", f"{down}.1", 4 * filters, channels, 1)
            channels = 4 * filters
    if not num_classes:
        return {**shapes, "fc.weight": (1000, channels), "fc.bias": (1000,)}
    filters, head = 4 * width, "classifier.0"
    for i in range(4):
        name = f"{head}.convs.{i}"
        conv_bn(f"{name}.0", f"{name}.1", filters, channels, 3 if i else 1)
    conv_bn(f"{head}.convs.4.1", f"{head}.convs.4.2", filters, channels, 1)
    conv_bn(f"{head}.project.0", f"{head}.project.1", filters, 5 * filters, 1)
    conv_bn("classifier.1", "classifier.2", filters, filters, 3)
    conv_bn("aux_classifier.0", "aux_classifier.1", filters, channels // 2, 3)
    for name in ("classifier.4", "aux_classifier.4"):
        shapes |= {f"{name}.weight": (num_classes, filters, 1, 1), f"{name}.bias": (num_classes,)}
    return shapes


def tf1_shapes(
    depth: int | str, *, beta: bool = False, num_classes: int | None = None
) -> dict[str, tuple[int, ...]]:
    """A key of UNITS -> slim's checkpoint of resnet_v1 for ImageNet, or deeplab's if num_classes.

    As nets/resnet_v1.py, deeplab/core/resnet_v1_beta.py and deeplab/model.py name them.
    """
    shapes, width = {}, WIDTHS[depth]
    scope = f"resnet_v1_{depth}"

    def conv_bn(name, filters, channels, size):
        shapes[f"{name}/weights"] = (size, size, channels, filters)
        shapes.update({f"{name}/BatchNorm/{kind}": (filters,) for kind in TF1_KINDS})

    channels = width
    if beta:
        conv_bn(f"{scope}/conv1_1", width, 3, 3)
        conv_bn(f"{scope}/conv1_2", width, width, 3)
        conv_bn(f"{scope}/conv1_3", 2 * width, width, 3)
        channels = 2 * width
    else:
        conv_bn(f"{scope}/conv1", width, 3, 7)
    for block, units in enumerate(UNITS[depth], start=1):
        filters = width * 2 ** (block - 1)
        for unit in range(1, units + 1):
            name = f"{scope}/block{block}/unit_{unit}/bottleneck_v1"
            if unit == 1:
                conv_bn(f"{name}/shortcut", 4 * filters, channels, 1)
            conv_bn(f"{name}/conv1", filters, channels, 1)
            conv_bn(f"{name}/conv2", filters, filters, 3)
            conv_bn(f"{name}/conv3", 4 * filters, filters, 1)
            channels = 4 * filters
    shapes["global_step"] = ()
    if not num_classes:
        logits = {f"{scope}/logits/weights": (1, 1, channels, 1000)}
        return {**shapes, **logits, f"{scope}/logits/biases": (1000,), f"{scope}/mean_rgb": (3,)}
    filters = 4 * width
    for name in ("image_pooling", *ASPP):
        conv_bn(name, filters, channels, 1 if name in ("image_pooling", "aspp0") else 3)
    conv_bn("concat_projection", filters, 5 * filters, 1)
    shapes["logits/semantic/weights"] = (1, 1, filters, num_classes)
    shapes["logits/semantic/biases"] = (num_classes,)
    trained = [name for name in shapes if "moving" not in name and name != "global_step"]
    return shapes | {f"{name}/Momentum": shapes[name] for name in trained}
