"""keras.applications' ResNets (v1) and MobileNetV2, downloaded or from a file, under our names."""

import pathlib
from collections.abc import Mapping

import h5py
import keras
import numpy as np

from data.terminal import first_line
from model.layers import BATCH_NORM_EPSILON
from model.pixels import KERAS
from pretrained import mobilenet_weights
from pretrained.mobilenet_weights import NETWORK, identify_mobilenet
from pretrained.weights import BATCH_NORM, UNIT_CONVS, Weights, identify_backbone, rename

IMAGENET = {
    "resnet50_keras": "ResNet50",
    "resnet101_keras": "ResNet101",
    "mobilenet_v2": "MobileNetV2",
}
SUFFIXES = (".h5", ".hdf5")
EPSILON = 1.001e-5  # Of batch norm there.
IGNORED = "(predictions|optimizer)/.*"  # ImageNet's classifier, and the optimizer's variables.
# Those of MobileNetV2, and the last 1x1 before them.
MOBILENET_IGNORED = "(Conv_1|Conv_1_bn|predictions|Logits|optimizer)/.*"


def download_imagenet(backbone: str) -> Weights:
    """A key of IMAGENET -> its weights for ImageNet, downloaded by Keras.

    Raises ValueError for another backbone, ConnectionError where they cannot be downloaded.
    """
    if backbone not in IMAGENET:
        raise ValueError(
            "imagenet is keras.applications' weights, for the backbones "
            f"{', '.join(IMAGENET)}, not {backbone}."
        )
    try:
        network = getattr(keras.applications, IMAGENET[backbone])
        # MobileNetV2 warns where its size is not known; the weights do not depend on it.
        network = network(weights="imagenet", include_top=False, input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises a bare one where there is no network.
        raise ConnectionError(
            f"keras.applications' weights of {backbone} cannot be downloaded: {error}."
        ) from error
    return rename_keras({weight.path: weight.numpy() for weight in network.weights})


def from_keras(file: pathlib.Path) -> Weights:
    """An HDF5 file of one of these networks, as downloaded or saved -> its weights by our names.

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
            weight = weight.removesuffix(":0")
            weight = "kernel" if weight == "depthwise_kernel" else weight  # As Keras 2 has it.
            values[f"{path.split('/')[0]}/{weight}"] = item[()]

    try:
        with h5py.File(file) as opened:
            opened.get("model_weights", opened).visititems(take)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"it is damaged, or not an HDF5 file: {first_line(error)}") from error
    return values


def rename_keras(foreign: Mapping[str, np.ndarray]) -> Weights:
    """The weights of one of these networks, as `layer/weight` -> the same by our names.

    In ResNets a conv's bias goes into the moving_mean of the batch norm behind it, and the
    difference of the epsilons into moving_variance. Raises ValueError where they are of another
    network.
    """
    if "post_bn/gamma" in foreign:
        raise ValueError("It is a ResNet of version 2; only version 1 is supported.")
    if "bn_Conv1/gamma" in foreign:
        return _rename_mobilenet(foreign)
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


def _rename_mobilenet(foreign):
    """MobileNetV2's weights -> the same by our names. The epsilon is ours; no conv has a bias."""
    names = {}
    for ours, (conv, batch_norm) in _mobilenet_layers(foreign).items():
        names[f"{ours}_conv/kernel"] = f"{conv}/kernel"
        names |= {f"{ours}_bn/{kind}": f"{batch_norm}/{kind}" for kind in BATCH_NORM}
    weights = rename(foreign, names, MOBILENET_IGNORED)
    backbone = identify_mobilenet(weights.values, "keras.applications with alpha 1")
    return weights._replace(model={"backbone": backbone, **NETWORK})


def _mobilenet_layers(foreign):
    """The source's names of the conv and the batch norm of each of our layers.

    Keras's files for ImageNet have other names than its network, which takes them by their order.
    """
    is_published = any(name.startswith("mobl") for name in foreign)
    layers = {"conv1": ("Conv1", "bn_Conv1")}
    for unit, conv in mobilenet_weights.UNIT_CONVS:
        n = unit - 1
        theirs = f"block_{n}_{conv}" if n else f"expanded_conv_{conv}"
        layers[f"unit{unit}_{conv}"] = (theirs, f"{theirs}_BN")
        if is_published:
            layers[f"unit{unit}_{conv}"] = (f"mobl{n}_conv_{n}_{conv}", f"bn{n}_conv_{n}_bn_{conv}")
    return layers


def _names():
    """The source's name of each of our weights; its conv2 is our block1."""
    layers = {"conv1": "conv1"}
    for block, unit, conv in UNIT_CONVS:
        layers[f"block{block}_unit{unit}_{conv}"] = f"conv{block + 1}_block{unit}_{conv}"
    weights = ["_conv/kernel", "_conv/bias", *(f"_bn/{kind}" for kind in BATCH_NORM)]
    return {ours + end: theirs + end for ours, theirs in layers.items() for end in weights}
