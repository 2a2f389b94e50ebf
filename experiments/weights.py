"""Weights to start from: a run's, or other people's, whatever file they are in."""

import collections
import pathlib
import pickle
import re

import keras
import ml_collections
import tensorflow as tf

from data.terminal import table
from model import pretrained
from model.pretrained import BATCH_NORM, Report, Weights, with_theirs
from model.pretrained_keras import from_keras
from model.pretrained_tf1 import from_tf1
from model.pretrained_torchvision import from_torchvision
from model.resnet import BACKBONES
from training.checkpoints import checkpoints_in, read_weights
from training.run_folder import read_config

IMAGENET = {"resnet50_keras": "ResNet50", "resnet101_keras": "ResNet101"}  # keras.applications'.
PYTORCH = (".pth", ".pt")
STATE = ("model", "state_dict", "model_state_dict")  # Where trainings keep it in a larger dict.
HDF5 = (".h5", ".hdf5")
# What weights in one part of the network presume of the model beside its backbone.
CONVENTION = {"backbone": ("backbone",), "without_logits": ("backbone", "head")}
CONVENTION["whole"] = CONVENTION["without_logits"]


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


def _refuse_web_page(file):
    with file.open("rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise ValueError(
            f"{file} is a web page, not weights: the download went wrong. Fetch it again."
        )


def read_pytorch(file):
    """A .pth -> its tensors by name, without running anything that is in it."""
    try:
        import torch
    except ImportError as error:
        raise ValueError("reading it takes PyTorch: pip install torch") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # What a damaged pickle makes it raise may be anything.
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise ValueError(
                "it holds more than weights, and reading that could run code: not read. Save "
                "model.state_dict() alone."
            ) from error
        # What PyTorch says of a pickle is how to run it all the same.
        said = "" if isinstance(error, pickle.UnpicklingError) else f": {first_line(error)}"
        raise ValueError(f"it is damaged, or no file of PyTorch{said}") from error
    if isinstance(state, dict):  # A training's checkpoint has them beside its optimizer's.
        state = next((state[key] for key in STATE if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in state.items()
    ):
        raise ValueError("it is no state_dict, tensors by name. Save model.state_dict() alone.")
    values = {}
    for name, tensor in state.items():
        try:
            values[name] = tensor.detach().float().numpy()
        except (TypeError, RuntimeError) as error:  # Sparse, quantized, or without storage.
            raise ValueError(f"{name} is no dense tensor of numbers.") from error
    if all(name.startswith("module.") for name in values):  # Of DistributedDataParallel.
        return {name.removeprefix("module."): value for name, value in values.items()}
    return values


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


def checkpoint_reader(file):
    try:
        return tf.train.load_checkpoint(str(file))
    except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"it is damaged, or no checkpoint: {first_line(error)}") from error


def read_tf1(reader):
    try:
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"it is damaged: {first_line(error)}") from error


def first_line(error):
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _ours(path):
    values = read_weights(path)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").exists():
            return Weights(values, dict(read_config(folder).model))
    print(f"warning: no config.json beside {path}: is it of pixels as the model's?", flush=True)
    return Weights(values)


def initialise(model: keras.Model, config: ml_collections.ConfigDict) -> str:
    """Fills a model as config.init_from says -> a table of what was loaded, for a person.

    Raises FileNotFoundError or ValueError, with nothing loaded, where it cannot be had, or was
    trained in another convention than the model's.
    """
    path, part, strict = (config.init_from[field] for field in ("path", "part", "strict"))
    weights = open_weights(path, config.model.backbone)
    check_convention(weights, config)
    try:
        report = pretrained.load(model, weights, part=part, strict=strict)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}\nAnother --config.init_from.part may fit, or "
            "--config.init_from.strict=False takes what does."
        ) from error
    return describe(path, weights, report)


def describe(path: str, weights: Weights, report: Report) -> str:
    """What became of the weights of a path -> a table of it by groups, and by name what differs."""
    groups = {name: pretrained.group_of(name) for name in {*weights.values, *report.missing}}
    rows = [
        [group, *(str(sum(groups.get(n, "other") == group for n in names)) for names in report)]
        for group in (*pretrained.GROUPS, "other")
    ]
    rows = [row for row in rows if set(row[1:]) != {"0"}]
    lines = [f"{name}: {shapes}" for name, shapes in report.mismatched.items()]
    lines += [f"missing: {with_theirs(name, weights)}" for name in report.missing]
    lines += [f"unknown: {name}" for name in report.unknown]
    if report.skipped:
        # By the first and the last part of their names, as all of a layer's slots.
        parts = [re.split("[./]", name) for name in report.skipped]
        alike = collections.Counter("...".join(dict.fromkeys((p[0], p[-1]))) for p in parts)
        lines.append("skipped: " + ", ".join(f"{name} ({n})" for name, n in alike.items()))
    return "\n".join([f"Weights from {path}:", table([["", *report._fields], *rows]), *lines])


def check_convention(weights: Weights, config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where a part of weights was trained in another convention than a config's.

    Prints what else its model had otherwise, such as rates, where the part is more than a backbone.
    """
    part, path = config.init_from.part, config.init_from.path
    for field in CONVENTION[part]:
        theirs, ours = weights.model.get(field), config.model[field]
        if theirs not in (None, ours):
            if field == "backbone" and _alike_but_for_depth(theirs, ours):
                raise ValueError(
                    f"{path} is a {theirs}, which is of another depth than {ours}: "
                    f"--config.model.backbone={theirs} takes it. Nothing was loaded."
                )
            raise ValueError(
                f"{path} was trained as {field} {theirs}, which sees pixels or lays its features "
                f"otherwise than {ours}: --config.model.{field}={theirs} takes it. Nothing was "
                "loaded."
            )
    if part != "backbone":
        for field in ("multi_grid", "atrous_rates", "image_pooling"):
            theirs, ours = (_listed(m.get(field)) for m in (weights.model, config.model))
            if weights.model and theirs != ours:
                print(f"note: {path} was trained with {field} {theirs}; here it is {ours}.")


def _alike_but_for_depth(theirs, ours):
    return BACKBONES[theirs]._replace(num_units=BACKBONES[ours].num_units) == BACKBONES[ours]


def _listed(value):
    return list(value) if isinstance(value, tuple | list) else value
