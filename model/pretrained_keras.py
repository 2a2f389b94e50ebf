"""Weights of keras.applications' ResNets (v1) under our names, and to the same numbers."""

from collections.abc import Mapping

import numpy as np

from model.layers import BATCH_NORM_EPSILON
from model.pretrained import BATCH_NORM, UNIT_CONVS, Weights, by_our_names, recognised
from model.resnet import KERAS

EPSILON = 1.001e-5  # Of batch norm there.
OF_NO_USE = "(predictions|optimizer)/.*"  # ImageNet's classifier, and what training keeps.


def from_keras(foreign: Mapping[str, np.ndarray]) -> Weights:
    """ResNet50's or ResNet101's weights, as `layer/weight` -> the same by our names.

    A conv's bias goes into the moving_mean of the batch norm behind it, and the difference of the
    epsilons into moving_variance. Raises ValueError where they are of another network.
    """
    if "post_bn/gamma" in foreign:
        raise ValueError("It is a ResNet of version 2, ours are of version 1.")
    names = _names()
    weights = by_our_names(foreign, names, OF_NO_USE)
    values, folded = dict(weights.values), set()
    for kernel in [name for name in values if name.endswith("_conv/kernel")]:
        name, mean = (
            kernel.replace("_conv/kernel", end) for end in ("_conv/bias", "_bn/moving_mean")
        )
        bias = values.pop(name, None)
        if bias is None:  # Without it the mean is not what ours has to be.
            values.pop(mean, None)
            names[mean] = names[name]
        elif mean in values:
            if bias.shape != values[mean].shape:
                raise ValueError(
                    f"{names[name]} has the shape {bias.shape}, and {names[mean]} "
                    f"{values[mean].shape}."
                )
            values[mean] = values[mean] - bias
            folded.add(mean)
    for name in [name for name in values if name.endswith("/moving_variance")]:
        values[name] = values[name] + np.float32(EPSILON - BATCH_NORM_EPSILON)
        folded.add(name)
    model = {"backbone": recognised(values, "keras.applications", pixels=KERAS)}
    return weights._replace(values=values, model=model, folded=tuple(sorted(folded)))


def _names():
    """Our names and theirs, whose conv2 is block1, as conv2_block1_0_conv/kernel."""
    layers = {"conv1": "conv1"}
    for block, unit, conv in UNIT_CONVS:
        layers[f"block{block}_unit{unit}_{conv}"] = f"conv{block + 1}_block{unit}_{conv}"
    weights = ["_conv/kernel", "_conv/bias", *(f"_bn/{kind}" for kind in BATCH_NORM)]
    return {ours + end: theirs + end for ours, theirs in layers.items() for end in weights}
