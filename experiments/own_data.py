"""train.py --data: a data set that is built, and a scale -> the config that trains on it.

The splits and the number of classes are those of the data set. A scale of experiments/base.py gives
the size of the network and the crops, and the steps; a small data set takes fewer steps.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments import base

# For a CPU, and photos of some 500 pixels: from ImageNet's weights, and from random ones.
MOBILE_SCALE, RANDOM_SCALE = "voc_mobile", "voc_small"
# Passes over a small data set, and the fewest steps, at the scales that are ours. Ours.
MAX_EPOCHS = 200
MIN_STEPS = 300
# Splits of our data sets that are trained on and scored, the preferred ones first.
TRAIN_SPLITS = ("trainaug", "train", "train_fine")
EVAL_SPLITS = ("val", "val_fine")
NETWORK = ("backbone", "num_blocks", "multi_grid", "atrous_rates", "image_pooling", "head")
# The weights that MOBILE_SCALE starts from, as Keras stores them.
IMAGENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def own_data_config(
    dataset: str,
    splits: Mapping[str, int],
    num_classes: int,
    *,
    scale: str,
    overrides: Mapping[str, Any],
) -> ml_collections.ConfigDict:
    """The facts of a data set and a scale -> the config that trains on it.

    Args:
      dataset: its name, as in `python -m data.build`.
      splits: its splits, and how many images each has.
      num_classes: how many classes it has.
      scale: a key of base.SCALES.
      overrides: fields that the user sets, by their dotted names.

    Returns:
      The config. Its learning rate is that for trained weights where it starts from some.

    Raises:
      ValueError: the scale is unknown, or it is unclear which split to train on or to score.
    """
    config = base.get_config(scale)
    fields = {
        "name": default_run_name(dataset),
        "model.num_classes": num_classes,
        "train_data.dataset": dataset,
        "train_data.split": _choose_split("train_data", dataset, splits, TRAIN_SPLITS, overrides),
        "train_data.hard_classes": (),  # Those of the scale are another data set's.
        "eval_data.dataset": dataset,
        "eval_data.split": _choose_split("eval_data", dataset, splits, EVAL_SPLITS, overrides),
    }
    if scale != "paper":
        num_images = splits[fields["train_data.split"]]
        epochs_end = MAX_EPOCHS * num_images // config.train_data.batch_size
        fields["steps"] = min(config.steps, max(MIN_STEPS, epochs_end))
        fields["eval_every"] = min(config.eval_every, fields["steps"] // 3)
    path = overrides.get("init_from.path", config.init_from.path)
    if path and not config.init_from.path:  # The scale's rate is for random weights.
        fields["learning_rate"] = base.paper_config().learning_rate
    if path:
        # The ASPP of a run is worth keeping; its classes may be others.
        fields["init_from.part"] = "without_logits" if os.path.isdir(path) else "backbone"
        if (run := pathlib.Path(path) / "config.json").exists():
            from training.run_folder import read_config  # It imports TensorFlow.

            theirs = read_config(run.parent).model
            fields |= {f"model.{name}": theirs[name] for name in NETWORK}
    config.update_from_flattened_dict({**fields, **overrides})
    return config


def default_run_name(dataset: str) -> str:
    """`folder/pets` -> `pets`, the run's folder below runs/; other data sets keep their name.

    Folders that the paper's runs have are not taken: `own_base`, `own_shapes`.
    """
    name = dataset.removeprefix("folder/")
    taken = {"base", "protocols", "imported", "report", *base.SCALES}
    return f"own_{name}" if name in taken or re.fullmatch(r"table\d+", name) else name


def _choose_split(group, dataset, splits, preferred, overrides):
    """The split that a group of the config names: the user's, or the first preferred one."""
    field = f"{group}.split"
    for split in (overrides.get(field), *preferred):
        if split in splits:
            return split
    raise ValueError(
        f"{dataset} has the splits {', '.join(splits)}: choose one with --config.{field}=SPLIT."
    )


def default_scale(workdir: pathlib.Path, overrides: Mapping[str, Any]) -> str:
    """A run's folder, and the fields that the user sets -> the scale where --scale names none.

    MOBILE_SCALE where its ImageNet weights are on this machine, or a TFLite file takes their place;
    not where the user chooses other weights or another backbone. A run that has begun keeps its
    scale, so that the same command resumes it.
    """
    if (workdir / "config.json").exists():
        from training.run_folder import read_config  # It imports TensorFlow.

        mobile = read_config(workdir).model.backbone.startswith("mobilenet")
    elif {"init_from.path", "model.backbone"} & {*overrides}:
        mobile = str(overrides.get("init_from.path", "")).endswith(".tflite")
    else:
        mobile = _imagenet_file().exists()
    return MOBILE_SCALE if mobile else RANDOM_SCALE


def _imagenet_file():
    """Where Keras stores IMAGENET_FILE once it is downloaded."""
    home = os.environ.get("KERAS_HOME", "~/.keras")
    return pathlib.Path(home).expanduser() / "models" / IMAGENET_FILE


def describe_start(config: ml_collections.ConfigDict, num_images: int) -> str:
    """A config and its number of training images -> a line on the weights it starts from."""
    path, backbone = config.init_from.path, config.model.backbone
    if path == "imagenet":
        return f"Starting from ImageNet's weights of keras.applications ({backbone})."
    if path:
        return f"Starting from the weights in {path} ({config.init_from.part})."
    text = (
        f"Starting from random weights ({backbone}): they need thousands of images, and there are "
        f"{num_images}."
    )
    if backbone.startswith("mobilenet"):
        return text
    return f"{text} To start from ImageNet's, a download of 9 MB, add --scale={MOBILE_SCALE}"
