"""Weights of keras.applications' ResNets (v1) under our names, and to the same numbers."""

import re
from collections.abc import Mapping

import numpy as np

from model.layers import BATCH_NORM_EPSILON
from model.pretrained import Weights, recognised, renamed
from model.resnet import KERAS

EPSILON = 1.001e-5  # Of batch norm there.


def from_keras(foreign: Mapping[str, np.ndarray]) -> Weights:
    """ResNet50's or ResNet101's weights, as `layer/weight` -> the same by our names.

    A conv's bias goes into the moving_mean of the batch norm behind it, and the difference of the
    epsilons into moving_variance. Raises ValueError where they are of another network.
    """
    if "post_bn/gamma" in foreign:
        raise ValueError("It is a ResNet of version 2, ours are of version 1.")
    values, theirs, skipped = renamed(foreign, _ours)
    folded = set()
    for name in [name for name in values if name.endswith("_conv/bias")]:
        mean = name.replace("_conv/bias", "_bn/moving_mean")
        bias = values.pop(name)
        if mean in values:  # Otherwise it is reported as missing.
            values[mean] = values[mean] - bias
            folded.add(mean)
    for name in [name for name in values if name.endswith("/moving_variance")]:
        values[name] = values[name] + np.float32(EPSILON - BATCH_NORM_EPSILON)
        folded.add(name)
    model = {"backbone": recognised(values, "keras.applications", pixels=KERAS)}
    return Weights(values, model, theirs, tuple(sorted(folded)), skipped)


def _ours(name):
    """Their conv2 is block1: conv2_block1_0_conv/kernel -> block1_unit1_0_conv/kernel."""
    if match := re.fullmatch(r"conv([2-5])_block(\d+)_([0-3]_(?:conv|bn)/\w+)", name):
        return f"block{int(match[1]) - 1}_unit{match[2]}_{match[3]}"
    return name if re.fullmatch(r"conv1_(conv|bn)/\w+", name) else None
