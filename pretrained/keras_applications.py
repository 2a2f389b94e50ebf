"""keras.applications' ResNets (v1), downloaded or from a file, as weights under our names."""

import pathlib
from collections.abc import Mapping

import h5py
import keras
import numpy as np

from data.terminal import first_line
from model.layers import BATCH_NORM_EPSILON
from model.pixels import KERAS
from pretrained.weights import BATCH_NORM, UNIT_CONVS, Weights, identify_backbone, rename

IMAGENET = {"resnet50_keras": "ResNet50", "resnet101_keras": "ResNet101"}
SUFFIXES = (".h5", ".hdf5")
EPSILON = 1.001e-5  # Of batch norm there.
IGNORED = "(predictions|optimizer)/.*"  # ImageNet's classifier, and the optimizer's variables.


def download_imagenet(backbone: str) -> Weights:
    """A key of IMAGENET -> its weights for ImageNet, downloaded by Keras.

    Raises ValueError for another backbone, ConnectionError where they cannot be downloaded.
    """
    if backbone not in IMAGENET:
        raise ValueError(
            "imagenet is keras.applications' weights, for the backbone "
            f"{' or '.join(IMAGENET)}, not {backbone}."
        )
    try:
        network = getattr(keras.applications, IMAGENET[backbone])
        network = network(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare one where there is no network.
        raise ConnectionError(
            f"keras.applications' weights of {backbone} cannot be downloaded: {error}."
        ) from error
    return rename_keras({weight.path: weight.numpy() for weight in network.weights})


def from_keras(file: pathlib.Path) -> Weights:
    """An HDF5 file of ResNet50 or ResNet101, as downloaded or saved -> its weights by our names.

    Raises ValueError where it is damaged, or of another network.
    """
    return rename_keras(_read(file))


def _read(file):
    """Weights by `layer/weight`, from Keras's old layout or that of .weights.h5."""
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
        raise ValueError(f"it is damaged, or not an HDF5 file: {first_line(error)}") from error
    return values


def rename_keras(foreign: Mapping[str, np.ndarray]) -> Weights:
    """ResNet50's or ResNet101's weights, as `layer/weight` -> the same by our names.

    A conv's bias goes into the moving_mean of the batch norm behind it, and the difference of the
    epsilons into moving_variance. Raises ValueError where they are of another network.
    """
    if "post_bn/gamma" in foreign:
        raise ValueError("It is a ResNet of version 2; only version 1 is supported.")
    names = _names()
    weights = rename(foreign, names, IGNORED)
    values, folded = dict(weights.values), set()
    for kernel in [name for name in values if name.endswith("_conv/kernel")]:
        name, mean = (
            kernel.replace("_conv/kernel", end) for end in ("_conv/bias", "_bn/moving_mean")
        )
        bias = values.pop(name, None)
        if bias is None:  # Without it our mean cannot be computed.
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
    model = {"backbone": identify_backbone(values, "keras.applications", pixels=KERAS)}
    return weights._replace(values=values, model=model, folded=tuple(sorted(folded)))


def _names():
    """The source's name of each of our weights; its conv2 is our block1."""
    layers = {"conv1": "conv1"}
    for block, unit, conv in UNIT_CONVS:
        layers[f"block{block}_unit{unit}_{conv}"] = f"conv{block + 1}_block{unit}_{conv}"
    weights = ["_conv/kernel", "_conv/bias", *(f"_bn/{kind}" for kind in BATCH_NORM)]
    return {ours + end: theirs + end for ours, theirs in layers.items() for end in weights}
