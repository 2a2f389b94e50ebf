"""config.init_from.path -> weights under our names, whatever file they are in."""

import pathlib
import re

from pretrained import keras_applications, tflite_models, torchvision_models
from pretrained.keras_applications import download_imagenet, from_keras
from pretrained.tf1_checkpoints import from_tf1, variable_names
from pretrained.tflite_models import from_tflite
from pretrained.torchvision_models import from_torchvision
from pretrained.weights import Weights
from training.checkpoints import checkpoints_in, read_weights
from training.run_folder import read_config


def open_weights(path: str, backbone: str) -> Weights:
    """What config.init_from.path names -> the weights, by our names.

    Args:
      path: "imagenet" for keras.applications', downloaded; a run's folder, a folder of checkpoints
        or a checkpoint of ours; a TensorFlow 1 checkpoint of slim or deeplab, of a ResNet or
        MobileNetV2; keras.applications' .h5 of the same; torchvision's .pth; a .tflite of the
        authors' MobileNetV2.
      backbone: a key of BACKBONES, for "imagenet" alone.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: the file is damaged, of a network that is not supported, or of PyTorch, which is
        not installed.
    """
    if path == "imagenet":
        return download_imagenet(backbone)
    file = named_file(path)
    suffix = "" if file.is_dir() else file.suffix  # A folder is a run's, whatever its name.
    try:
        if suffix in torchvision_models.SUFFIXES:
            return from_torchvision(file)
        if suffix in keras_applications.SUFFIXES:
            return from_keras(file)
        if suffix in tflite_models.SUFFIXES:
            return from_tflite(file)
        if is_checkpoint(file) and not any(n.startswith("model/") for n in variable_names(file)):
            return from_tf1(file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _from_run(file)


def named_file(path: str) -> pathlib.Path:
    """A path as a user gives it -> a file, a checkpoint without its suffixes, or a folder.

    Raises FileNotFoundError for a file that is missing and for a folder of third-party checkpoints,
    ValueError for a web page and for a part of a checkpoint.
    """
    if part := re.search(r"\.(data-\d+-of-\d+|meta)$", path):
        raise ValueError(f"{path} is a part of a checkpoint: name {path[: part.start()]}")
    file = pathlib.Path(path.removesuffix(".index"))
    for there in (file, pathlib.Path(f"{file}.index")):
        if there.is_file():
            _refuse_web_page(there)
    sources = (torchvision_models, keras_applications, tflite_models)
    suffixes = (*(suffix for source in sources for suffix in source.SUFFIXES), ".ckpt")
    if file.suffix in suffixes and not (file.is_dir() or is_checkpoint(file)):
        raise FileNotFoundError(f"There is no file {path}.")
    checkpoints = [*file.glob("*.ckpt"), *(index.with_suffix("") for index in file.glob("*.index"))]
    if checkpoints and not (checkpoints_in(file) or (file / "config.json").exists()):
        raise FileNotFoundError(
            f"{file} is a folder of third-party checkpoints: name one, such as {max(checkpoints)}"
        )
    return file


def is_checkpoint(file: pathlib.Path) -> bool:
    """Whether a path names one TensorFlow checkpoint; in TensorFlow's first format, one file."""
    return pathlib.Path(f"{file}.index").exists() or file.is_file()


def _refuse_web_page(file):
    with file.open("rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise ValueError(
            f"{file} is a web page, not weights: the download went wrong. Fetch it again."
        )


def _from_run(path):
    values = read_weights(path)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").exists():
            return Weights(values, dict(read_config(folder).model))
    print(
        f"warning: no config.json beside {path}: check that it was trained on pixels normalized as "
        "the model's.",
        flush=True,
    )
    return Weights(values)
