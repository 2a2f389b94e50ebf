"""The authors' TensorFlow 1 checkpoints, slim's and deeplab's, as weights under our names."""

import pathlib
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from data.terminal import first_line
from model.pixels import AUTHORS, SYMMETRIC
from model.resnet import RESNETS
from pretrained import mobilenet_weights
from pretrained.mobilenet_weights import NETWORK, identify_mobilenet
from pretrained.weights import BATCH_NORM, UNIT_CONVS, Weights, identify_backbone, rename

# No variable holds the rates. The authors' code: "set multi_grid = [1, 2, 4] when using provided
# 'resnet_v1_{50,101}_beta' checkpoints"; its commands have the paper's rates of ASPP.
MULTI_GRID = (1, 2, 4)
ATROUS_RATES = (6, 12, 18, 24)

HEAD = {
    "aspp_1x1": "aspp0",
    "aspp_pool_1x1": "image_pooling",
    "aspp_project": "concat_projection",
    **{f"aspp_atrous{i}": f"aspp{i}" for i in range(1, len(ATROUS_RATES) + 1)},
}
DEEPLABV3_PLUS = re.compile(r"decoder/|aspp\d_(depthwise|pointwise)/")
SLOTS = r"Momentum|(Adam|RMSProp|Ftrl)(_1)?|Adagrad|Adadelta(_1)?|ExponentialMovingAverage"
# Training's variables, the ranges of quantization-aware training, and of a network for ImageNet its
# mean pixel and its classifier.
IGNORED = (
    rf".*/({SLOTS})|.*_quant/.*|global_step|beta[12]_power|resnet_v1_\w+/(mean_rgb|logits/(weights|biases))"
    r"|MobilenetV2/(Conv_1|Logits)/.*"
)
MOBILENET = "MobilenetV2"  # Its scope.


def variable_names(file: pathlib.Path) -> list[str]:
    """A checkpoint, ours or third-party -> its variables. Raises ValueError where it is damaged."""
    try:
        return list(tf.train.load_checkpoint(str(file)).get_variable_to_shape_map())
    except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"it is damaged, or not a checkpoint: {first_line(error)}") from error


def from_tf1(file: pathlib.Path) -> Weights:
    """A checkpoint of slim's resnet_v1_50, 101 or mobilenet_v2, or of deeplab's -> by our names.

    Raises ValueError where it is damaged, of another network (such as DeepLabv3+), or of another
    mean pixel.
    """
    names = variable_names(file)
    try:
        reader = tf.train.load_checkpoint(str(file))
        return rename_tf1({name: reader.get_tensor(name) for name in names})
    except (IndexError, tf.errors.OpError) as error:
        raise ValueError(f"it is damaged: {first_line(error)}") from error


def rename_tf1(foreign: Mapping[str, np.ndarray]) -> Weights:
    """Variables by the authors' names -> the same by ours.

    An optimizer's variables, moving averages of weights, ranges of quantization, ImageNet's logits
    and mean_rgb are left out. The rates of a segmentation model are in no variable: they are taken
    to be MULTI_GRID, in a ResNet, and ATROUS_RATES. Raises ValueError where they are of another
    network, or of another mean pixel.
    """
    if later := next(filter(DEEPLABV3_PLUS.match, sorted(foreign)), None):
        raise ValueError(f"It is DeepLabv3+, not DeepLabv3: it has {later}.")
    is_mobilenet = f"{MOBILENET}/Conv/weights" in foreign
    scope = next(filter(None, (re.match(r"resnet_v1_\w+", name) for name in foreign)), ("",))[0]
    weights = rename(foreign, _names(scope, is_mobilenet), IGNORED)
    values = dict(weights.values)
    if is_mobilenet:
        backbone = identify_mobilenet(values, "the authors with depth multiplier 1 or 0.5")
    else:
        backbone = identify_backbone(values, "the authors", pixels=AUTHORS, beta=SYMMETRIC)
        _check_mean(foreign.get(f"{scope}/mean_rgb"), backbone)
    if "logits/kernel" not in values:
        return weights._replace(model={"backbone": backbone, **(NETWORK if is_mobilenet else {})})
    rates = ATROUS_RATES[: sum(f"aspp{i}/weights" in foreign for i in range(1, 5))]
    image_pooling = "image_pooling/weights" in foreign
    folded = ()
    if image_pooling and (kernel := values.get("aspp_project_conv/kernel")) is not None:
        filters = kernel.shape[3]  # Theirs come first in the concatenation, ours last.
        values["aspp_project_conv/kernel"] = np.roll(kernel, -filters, axis=2)
        folded = ("aspp_project_conv/kernel",)
    model = {
        "backbone": backbone,
        "num_classes": values["logits/kernel"].shape[-1],
        "num_blocks": 4,
        "output_stride": 16,
        "multi_grid": NETWORK["multi_grid"] if is_mobilenet else MULTI_GRID,
        "atrous_rates": rates if "aspp0/weights" in foreign else None,
        "image_pooling": image_pooling,
        "head": "paper",
    }
    return weights._replace(values=values, model=model, folded=folded)


def _check_mean(mean, backbone):
    """slim's mean pixel, or None, and a backbone: with a stem of 7x7 they must agree."""
    expected = RESNETS[backbone].mean_pixel
    if mean is None or RESNETS[backbone].beta:
        return
    if np.shape(mean) != (3,) or not np.allclose(mean, expected, atol=0.01):
        raise ValueError(
            f"Its mean_rgb is {np.round(mean, 2).tolist()}, but {backbone} subtracts "
            f"{list(expected)}: it was trained on other pixels."
        )


def _resnet_layers(scope):
    """The source's name of each of our layers."""
    layers = {f"conv1{end}": f"{scope}/conv1{end}" for end in ("", "_1", "_2", "_3")}
    for block, unit, conv in UNIT_CONVS:
        theirs = f"{scope}/block{block}/unit_{unit}/bottleneck_v1/"
        theirs += f"conv{conv}" if conv else "shortcut"
        layers[f"block{block}_unit{unit}_{conv}"] = theirs
    return layers


def _mobilenet_layers():
    """The source's name of each of our layers."""
    layers = {"conv1": f"{MOBILENET}/Conv"}
    for unit, conv in mobilenet_weights.UNIT_CONVS:
        number = f"_{unit - 1}" if unit > 1 else ""
        layers[f"unit{unit}_{conv}"] = f"{MOBILENET}/expanded_conv{number}/{conv}"
    return layers


def _names(scope, is_mobilenet):
    """The source's name of each of our weights; scope: of a ResNet."""
    layers = HEAD | (_mobilenet_layers() if is_mobilenet else _resnet_layers(scope))
    names = {"logits/kernel": "logits/semantic/weights", "logits/bias": "logits/semantic/biases"}
    for ours, theirs in layers.items():
        kind = "depthwise_weights" if theirs.endswith("/depthwise") else "weights"
        names[f"{ours}_conv/kernel"] = f"{theirs}/{kind}"
        names |= {f"{ours}_bn/{kind}": f"{theirs}/BatchNorm/{kind}" for kind in BATCH_NORM}
    return names
