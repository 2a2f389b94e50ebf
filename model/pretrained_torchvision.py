"""Weights of torchvision's ResNets and DeepLabv3 under our names."""

import re
from collections.abc import Mapping

import numpy as np

from model.pretrained import Weights, recognised, renamed
from model.resnet import TORCHVISION

# What their DeepLabv3 is beside its backbone; rates as stated at output_stride 16.
MODEL = {
    "num_blocks": 4,
    "output_stride": 8,
    "multi_grid": (1, 1, 1),
    "atrous_rates": (6, 12, 18),
    "image_pooling": True,
    "head": "torchvision",
}
HEAD = {
    "classifier.0.convs.0.0": "aspp_1x1_conv",
    "classifier.0.convs.0.1": "aspp_1x1_bn",
    "classifier.0.convs.1.0": "aspp_atrous1_conv",
    "classifier.0.convs.1.1": "aspp_atrous1_bn",
    "classifier.0.convs.2.0": "aspp_atrous2_conv",
    "classifier.0.convs.2.1": "aspp_atrous2_bn",
    "classifier.0.convs.3.0": "aspp_atrous3_conv",
    "classifier.0.convs.3.1": "aspp_atrous3_bn",
    "classifier.0.convs.4.1": "aspp_pool_1x1_conv",
    "classifier.0.convs.4.2": "aspp_pool_1x1_bn",
    "classifier.0.project.0": "aspp_project_conv",
    "classifier.0.project.1": "aspp_project_bn",
    "classifier.1": "aspp_extra_conv",
    "classifier.2": "aspp_extra_bn",
    "classifier.4": "logits",
}
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def from_torchvision(foreign: Mapping[str, np.ndarray]) -> Weights:
    """A state_dict of resnet50, resnet101, or deeplabv3 with one of them -> the same by our names.

    The auxiliary classifier, ImageNet's classifier and the counts of batches are left out. Raises
    ValueError where it is of another network.
    """
    segments = "classifier.0.convs.0.0.weight" in foreign
    if not segments and any(name.startswith("classifier.") for name in foreign):
        raise ValueError("Its classifier is not DeepLabv3's.")
    values, theirs, skipped = renamed(foreign, _ours)
    for name, value in values.items():
        if name.endswith("/kernel") and value.ndim == 4:
            values[name] = value.transpose(2, 3, 1, 0)  # They have the filters first.
    model = {"backbone": recognised(values, "torchvision", pixels=TORCHVISION)}
    if segments:
        bias = foreign.get("classifier.4.bias", np.zeros(()))
        if bias.ndim != 1:
            raise ValueError("It lacks classifier.4.bias, a number for each class.")
        model = {**model, **MODEL, "num_classes": len(bias)}
    return Weights(values, model, theirs, skipped=skipped)


def _ours(name):
    module, _, weight = name.rpartition(".")
    layer = HEAD.get(module)
    module = module.removeprefix("backbone.")
    if match := re.fullmatch(r"(conv|bn)1", module):
        layer = f"conv1_{match[1]}"
    elif match := re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn)([1-3])", module):
        layer = f"block{match[1]}_unit{int(match[2]) + 1}_{match[4]}_{match[3]}"
    elif match := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])", module):
        layer = f"block{match[1]}_unit{int(match[2]) + 1}_0_{('conv', 'bn')[int(match[3])]}"
    if layer is None:
        return None
    weight = NORM.get(weight) if layer.endswith("_bn") else weight.replace("weight", "kernel")
    return f"{layer}/{weight}" if weight else None
