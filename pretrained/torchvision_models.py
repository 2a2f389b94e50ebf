"""torchvision's ResNets and DeepLabv3, from a .pth, as weights under our names."""

import pathlib
import pickle
import re
from collections.abc import Mapping

import numpy as np

from data.terminal import first_line
from model.pixels import TORCHVISION
from pretrained.weights import UNIT_CONVS, Weights, identify_backbone, rename

SUFFIXES = (".pth", ".pt")
STATE_KEYS = ("model", "state_dict", "model_state_dict")  # Of a training's larger dictionary.
# Arguments of deeplabv3 that make torchvision's; rates as stated at output_stride 16.
DEEPLABV3_ARGUMENTS = {
    "num_blocks": 4,
    "output_stride": 8,
    "multi_grid": (1, 1, 1),
    "atrous_rates": (6, 12, 18),
    "image_pooling": True,
    "head": "torchvision",
}
HEAD = {
    "aspp_1x1_conv": "classifier.0.convs.0.0",
    "aspp_1x1_bn": "classifier.0.convs.0.1",
    "aspp_atrous1_conv": "classifier.0.convs.1.0",
    "aspp_atrous1_bn": "classifier.0.convs.1.1",
    "aspp_atrous2_conv": "classifier.0.convs.2.0",
    "aspp_atrous2_bn": "classifier.0.convs.2.1",
    "aspp_atrous3_conv": "classifier.0.convs.3.0",
    "aspp_atrous3_bn": "classifier.0.convs.3.1",
    "aspp_pool_1x1_conv": "classifier.0.convs.4.1",
    "aspp_pool_1x1_bn": "classifier.0.convs.4.2",
    "aspp_project_conv": "classifier.0.project.0",
    "aspp_project_bn": "classifier.0.project.1",
    "aspp_extra_conv": "classifier.1",
    "aspp_extra_bn": "classifier.2",
    "logits": "classifier.4",
}
BATCH_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# The auxiliary classifier, ImageNet's, and the counts of batches.
IGNORED = r"aux_classifier\..*|fc\.(weight|bias)|.*\.num_batches_tracked"


def from_torchvision(file: pathlib.Path) -> Weights:
    """A .pth or .pt of resnet50, resnet101 or deeplabv3 -> its weights by our names.

    Nothing that is in the file is run. Raises ValueError where it is damaged, holds more than
    weights or is of another network, and where PyTorch is not installed.
    """
    return rename_torchvision(_read(file))


def rename_torchvision(foreign: Mapping[str, np.ndarray]) -> Weights:
    """A state_dict of resnet50, resnet101, or deeplabv3 with one of them -> the same by our names.

    The auxiliary classifier, ImageNet's classifier and the counts of batches are left out. Raises
    ValueError where it is of another network.
    """
    segments = "classifier.0.convs.0.0.weight" in foreign
    if not segments and any(name.startswith("classifier.") for name in foreign):
        raise ValueError("Its classifier is not DeepLabv3's.")
    prefix = "backbone." if any(name.startswith("backbone.") for name in foreign) else ""
    weights = rename(foreign, _names(prefix), IGNORED)
    values = {  # They have the filters first.
        name: value.transpose(2, 3, 1, 0) if name.endswith("/kernel") else value
        for name, value in weights.values.items()
    }
    model = {"backbone": identify_backbone(values, "torchvision", pixels=TORCHVISION)}
    if segments:
        if "logits/bias" not in values:
            raise ValueError("It lacks classifier.4.bias, of which each class has one.")
        model = {**model, **DEEPLABV3_ARGUMENTS, "num_classes": len(values["logits/bias"])}
    return weights._replace(values=values, model=model)


def _read(file):
    """A .pth -> its tensors by name."""
    try:
        import torch
    except ImportError as error:
        raise ValueError("reading it needs PyTorch: pip install torch") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise ValueError(
                "it holds more than weights, and reading that could run code: not read. Save "
                "model.state_dict() only."
            ) from error
        # PyTorch's own message advises to run the pickle all the same.
        reason = "" if isinstance(error, pickle.UnpicklingError) else f": {first_line(error)}"
        raise ValueError(f"it is damaged, or not a file of PyTorch{reason}") from error
    if isinstance(state, dict):  # A training's checkpoint has them beside its optimizer's.
        state = next((state[key] for key in STATE_KEYS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in state.items()
    ):
        raise ValueError(
            "not a state_dict (a mapping of names to tensors). Save model.state_dict() only."
        )
    values = {}
    for name, tensor in state.items():
        try:
            values[name] = tensor.detach().float().numpy()
        except (TypeError, RuntimeError) as error:  # Sparse, quantized, or without storage.
            raise ValueError(f"{name} is not a dense tensor of numbers.") from error
    if all(name.startswith("module.") for name in values):  # Of DistributedDataParallel.
        return {name.removeprefix("module."): value for name, value in values.items()}
    return values


def _names(prefix):
    """The source's name of each of our weights; prefix: of its backbone."""
    modules = {"conv1_conv": f"{prefix}conv1", "conv1_bn": f"{prefix}bn1", **HEAD}
    for block, unit, conv in UNIT_CONVS:
        ours, theirs = f"block{block}_unit{unit}_{conv}", f"{prefix}layer{block}.{unit - 1}."
        modules[f"{ours}_conv"] = theirs + (f"conv{conv}" if conv else "downsample.0")
        modules[f"{ours}_bn"] = theirs + (f"bn{conv}" if conv else "downsample.1")
    names = {"logits/bias": "classifier.4.bias"}
    for layer, module in modules.items():
        kinds = BATCH_NORM_NAMES if layer.endswith("_bn") else {"kernel": "weight"}
        names |= {f"{layer}/{ours}": f"{module}.{theirs}" for ours, theirs in kinds.items()}
    return names
