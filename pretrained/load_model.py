"""Third-party weights -> a network with them, in Keras."""

import os
from typing import Any

import keras

from model.deeplabv3 import deeplabv3, with_new_classifier
from pretrained.open_weights import is_checkpoint, named_file, open_weights
from pretrained.weights import load

IMAGENET_BACKBONE = "resnet101_keras"  # The base protocol's (experiments/base.py).


def load_model(
    path: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    backbone: str | None = None,
    **arguments: Any,
) -> keras.Model:
    """A file of third-party weights, or "imagenet" -> a model of deeplabv3 with them.

    What the weights lack is random: ASPP and the classifier where they are a backbone's. A
    TensorFlow 1 checkpoint of a ResNet does not contain its rates: multi_grid (1, 2, 4) and
    atrous_rates (6, 12, 18) are assumed.

    Args:
      path: torchvision's .pth, keras.applications' .h5, a .tflite of the authors' MobileNetV2, a
        TensorFlow 1 checkpoint of slim or deeplab, or "imagenet": keras.applications' weights,
        downloaded.
      num_classes: of a new, random classifier. None: the classifier of the weights if they have
        one, else a random one with 21 classes.
      backbone: for "imagenet", "resnet101_keras" (the default), "resnet50_keras" or "mobilenet_v2";
        a file determines it.
      arguments: of deeplabv3, where the model is to differ from the one that the weights are of,
        such as output_stride.

    Raises:
      FileNotFoundError: nothing is there.
      ConnectionError: "imagenet" cannot be downloaded.
      ValueError: the file is damaged, of a run, of a network that is not supported, or does not fit
        the arguments; or reading it needs PyTorch, which is not installed.
    """
    path = str(path)
    if path.endswith(".keras"):
        raise ValueError(
            f"{path} is a model saved by Keras: import model.layers, then "
            f"keras.models.load_model({path!r})."
        )
    if path != "imagenet" and not is_checkpoint(named_file(path)):
        raise FileNotFoundError(
            f"There is no file {path}; load_run of training/load_run.py reads the folder of a run."
        )
    weights = open_weights(path, backbone or IMAGENET_BACKBONE)
    if not weights.source_names:
        raise ValueError(
            f"{path} is a checkpoint of a run: give the run's folder to load_run of "
            "training/load_run.py."
        )
    if backbone not in (None, weights.model["backbone"]):
        raise ValueError(
            f"{path} holds weights of {weights.model['backbone']}, not {backbone}: leave backbone "
            "out."
        )
    model = deeplabv3(**{**weights.model, **arguments})
    part = "whole" if "num_classes" in weights.model else "backbone"
    try:
        load(model, weights, part=part)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model if num_classes is None else with_new_classifier(model, num_classes)
