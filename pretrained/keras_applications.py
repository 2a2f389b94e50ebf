"""Weights of keras.applications' ResNets (v1) under our names, and to the same numbers."""

from collections.abc import Mapping

import keras
import numpy as np

from data.terminal import first_line
from model.layers import BATCH_NORM_EPSILON
from model.resnet import KERAS
from pretrained.weights import BATCH_NORM, UNIT_CONVS, Weights, by_our_names, recognised

IMAGENET = {"resnet50_keras": "ResNet50", "resnet101_keras": "ResNet101"}  # keras.applications'.
HDF5 = (".h5", ".hdf5")


def imagenet(backbone):
    if backbone not in IMAGENET:
        raise ValueError(
            "init_from.path imagenet is keras.applications' weights, for --config.model.backbone="
            f"{' or '.join(IMAGENET)}, not {backbone}. Name a file, or start from random weights "
            "with --config.init_from.path="
        )
    try:
        build = getattr(keras.applications, IMAGENET[backbone])
        network = build(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare one where there is no network.
        raise ConnectionError(
            f"keras.applications' weights of {backbone} cannot be downloaded: {error}. Name a file "
            "that you have with --config.init_from.path=FILE.h5, or start from random weights with "
            "--config.init_from.path="
        ) from error
    return from_keras({weight.path: weight.numpy() for weight in network.weights})


def read_hdf5(file):
    """Weights of Keras in HDF5, in its old layout or that of .weights.h5 -> by `layer/weight`."""
    import h5py

    values = {}

    def take(path, item):
        if not isinstance(item, h5py.Dataset):
            return
        *_, weight = path.split("/")
        if path.startswith("optimizer/"):
            values[path] = item[()]
        elif "name" in item.parent.attrs:  # .weights.h5: numbered, in the order of creation.
            weights = ("kernel", "bias") if len(item.parent) <= 2 else BATCH_NORM
            values[f"{item.parent.attrs['name']}/{weights[int(weight) % len(weights)]}"] = item[()]
        else:
            values[f"{path.split('/')[0]}/{weight.removesuffix(':0')}"] = item[()]

    try:
        with h5py.File(file) as opened:
            opened.get("model_weights", opened).visititems(take)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"it is damaged, or no HDF5 file: {first_line(error)}") from error
    return values


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
