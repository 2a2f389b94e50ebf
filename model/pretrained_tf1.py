"""Weights of the authors' TensorFlow 1 checkpoints, slim's and deeplab's, under our names."""

import re
from collections.abc import Mapping

import numpy as np

from model.pretrained import Weights, recognised, renamed
from model.resnet import AUTHORS, AUTHORS_BETA

# Rates are in no variable. The authors' code: "set multi_grid = [1, 2, 4] when using provided
# 'resnet_v1_{50,101}_beta' checkpoints"; its commands have the paper's rates of ASPP.
MULTI_GRID = (1, 2, 4)
ATROUS_RATES = (6, 12, 18, 24)

HEAD = {
    "aspp0": "aspp_1x1",
    "image_pooling": "aspp_pool_1x1",
    "concat_projection": "aspp_project",
    **{f"aspp{i}": f"aspp_atrous{i}" for i in range(1, len(ATROUS_RATES) + 1)},
}
LATER_MODEL = re.compile(r"decoder/|aspp\d_(depthwise|pointwise)/")


def from_tf1(foreign: Mapping[str, np.ndarray]) -> Weights:
    """A checkpoint of slim's resnet_v1_50 or 101, the beta ones, or deeplab's -> by our names.

    What an optimizer keeps, ImageNet's logits and mean_rgb are left out. Of a segmentation model
    the rates cannot be read off: they are taken to be MULTI_GRID and ATROUS_RATES.
    Raises ValueError where it is of another network, DeepLabv3+ for one.
    """
    if later := next(filter(LATER_MODEL.match, sorted(foreign)), None):
        raise ValueError(f"It is DeepLabv3+, not DeepLabv3: it has {later}.")
    values, theirs, skipped = renamed(foreign, _ours)
    backbone = recognised(values, "the authors", pixels=AUTHORS, beta=AUTHORS_BETA)
    if "logits/kernel" not in values:
        return Weights(values, {"backbone": backbone}, theirs, skipped=skipped)
    rates = ATROUS_RATES[: sum(f"aspp{i}/weights" in foreign for i in range(1, 5))]
    image_pooling = "image_pooling/weights" in foreign
    folded = ()
    if image_pooling and (kernel := values.get("aspp_project_conv/kernel")) is not None:
        filters = kernel.shape[3]  # They put the image-level features first, we put them last.
        values["aspp_project_conv/kernel"] = np.roll(kernel, -filters, axis=2)
        folded = ("aspp_project_conv/kernel",)
    model = {
        "backbone": backbone,
        "num_classes": values["logits/kernel"].shape[-1],
        "num_blocks": 4,
        "output_stride": 16,
        "multi_grid": MULTI_GRID,
        "atrous_rates": rates if "aspp0/weights" in foreign else None,
        "image_pooling": image_pooling,
        "head": "paper",
    }
    return Weights(values, model, theirs, folded, skipped)


def _ours(name):
    scope, _, weight = name.replace("/BatchNorm/", "_bn/").rpartition("/")
    kinds = ("gamma", "beta", "moving_mean", "moving_variance")
    if scope == "logits/semantic":
        return {"weights": "logits/kernel", "biases": "logits/bias"}.get(weight)
    if not (weight in kinds if scope.endswith("_bn") else weight == "weights"):
        return None
    weight = "_conv/kernel" if weight == "weights" else f"_bn/{weight}"
    scope = scope.removesuffix("_bn")
    if scope in HEAD:
        return HEAD[scope] + weight
    scope = re.sub(r"^resnet_v1_\w+?/", "", scope)
    if re.fullmatch(r"conv1(_[1-3])?", scope):
        return scope + weight
    if match := re.fullmatch(
        r"block([1-4])/unit_(\d+)/bottleneck_v1/(?:conv([1-3])|shortcut)", scope
    ):
        return f"block{match[1]}_unit{match[2]}_{match[3] or 0}" + weight
    return None
