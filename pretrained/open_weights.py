"""Weights to start from: a run's, or other people's, whatever file they are in."""

import pathlib
import re

from pretrained.keras_applications import HDF5, from_keras, imagenet, read_hdf5
from pretrained.tf1_checkpoints import checkpoint_reader, from_tf1, read_tf1
from pretrained.torchvision_models import PYTORCH, from_torchvision, read_pytorch
from pretrained.weights import Weights
from training.checkpoints import checkpoints_in, read_weights
from training.run_folder import read_config


def open_weights(path: str, backbone: str) -> Weights:
    """What config.init_from.path names -> the weights, by our names.

    "imagenet": keras.applications', downloaded; backbone says which. Otherwise a run's folder, a
    folder of checkpoints or a checkpoint of ours; a TensorFlow 1 checkpoint, of slim or deeplab;
    keras.applications' .h5; torchvision's .pth. Raises FileNotFoundError where nothing is there,
    ValueError where it is damaged, of no network of ours, or PyTorch's, which is not installed.
    """
    if path == "imagenet":
        return imagenet(backbone)
    file = named_file(path)
    try:
        if file.suffix in PYTORCH:
            return from_torchvision(read_pytorch(file))
        if file.suffix in HDF5:
            return from_keras(read_hdf5(file))
        if is_checkpoint(file):
            reader = checkpoint_reader(file)
            if not any(name.startswith("model/") for name in reader.get_variable_to_shape_map()):
                return from_tf1(read_tf1(reader))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _ours(file)


def named_file(path: str) -> pathlib.Path:
    """What a person named -> a file, a checkpoint without its endings, or a folder; or nothing.

    Raises FileNotFoundError for a file that is not there, and for a folder of others' checkpoints;
    ValueError for a web page, and for a part of a checkpoint.
    """
    if part := re.search(r"\.(data-\d+-of-\d+|meta)$", path):
        raise ValueError(f"{path} is a part of a checkpoint: name {path[: part.start()]}")
    file = pathlib.Path(path.removesuffix(".index"))
    for there in (file, pathlib.Path(f"{file}.index")):
        if there.is_file():
            _refuse_web_page(there)
    if file.suffix in (*PYTORCH, *HDF5, ".ckpt") and not (file.is_dir() or is_checkpoint(file)):
        raise FileNotFoundError(f"There is no file {path}.")
    others = [*file.glob("*.ckpt"), *(index.with_suffix("") for index in file.glob("*.index"))]
    if others and not (checkpoints_in(file) or (file / "config.json").exists()):
        raise FileNotFoundError(
            f"{file} is a folder of others' checkpoints: name one of them, as {max(others)}"
        )
    return file


def is_checkpoint(file: pathlib.Path) -> bool:
    """Whether it is the name of one TensorFlow checkpoint; in the first format, of one file."""
    return pathlib.Path(f"{file}.index").exists() or file.is_file()


def _refuse_web_page(file):
    with file.open("rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise ValueError(
            f"{file} is a web page, not weights: the download went wrong. Fetch it again."
        )


def _ours(path):
    values = read_weights(path)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").exists():
            return Weights(values, dict(read_config(folder).model))
    print(f"warning: no config.json beside {path}: is it of pixels as the model's?", flush=True)
    return Weights(values)
