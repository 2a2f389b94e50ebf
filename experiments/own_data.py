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

DEFAULT_SCALE = "voc_small"  # For a CPU, and photos of some 500 pixels.
# Passes over a small data set, and the fewest steps, at the scales that are ours. Ours.
MAX_EPOCHS = 200
MIN_STEPS = 300
# Splits of our data sets that are trained on and scored, the preferred ones first.
TRAIN_SPLITS = ("trainaug", "train", "train_fine")
EVAL_SPLITS = ("val", "val_fine")
# Takes the place of a small scale's backbone where its ImageNet weights are on this machine.
IMAGENET_BACKBONE = "resnet50_keras"
NETWORK = ("backbone", "num_blocks", "multi_grid", "atrous_rates", "image_pooling", "head")
IMAGENET_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"  # As Keras stores them.


def own_data_config(
    dataset: str,
    splits: Mapping[str, int],
    num_classes: int,
    *,
    scale: str = DEFAULT_SCALE,
    overrides: Mapping[str, Any],
    use_imagenet: bool,
) -> ml_collections.ConfigDict:
    """The facts of a data set and a scale -> the config that trains on it.

    Args:
      dataset: its name, as in `python -m data.build`.
      splits: its splits, and how many images each has.
      num_classes: how many classes it has.
      scale: a key of base.SCALES.
      overrides: fields that the user sets, by their dotted names.
      use_imagenet: whether a small scale starts from ImageNet's weights, with IMAGENET_BACKBONE.

    Returns:
      The config. Its learning rate is the paper's where it starts from trained weights.

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
    if (
        use_imagenet
        and scale != "paper"
        and not {"init_from.path", "model.backbone"} & {*overrides}
    ):
        fields |= {"init_from.path": "imagenet", "model.backbone": IMAGENET_BACKBONE}
    path = {**fields, **overrides}.get("init_from.path", config.init_from.path)
    if path:
        fields["learning_rate"] = base.paper_config().learning_rate
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


def starts_from_imagenet(workdir: pathlib.Path) -> bool:
    """Whether a run starts from ImageNet's weights unasked: where they are on this machine.

    A run that has begun keeps its start, so that the same command resumes it.
    """
    if (workdir / "config.json").exists():
        from training.run_folder import read_config  # It imports TensorFlow.

        return read_config(workdir).init_from.path == "imagenet"
    return _imagenet_file().exists()


def _imagenet_file():
    """Where Keras stores IMAGENET_BACKBONE's weights once they are downloaded."""
    home = os.environ.get("KERAS_HOME", "~/.keras")
    return pathlib.Path(home).expanduser() / "models" / IMAGENET_FILE


def describe_start(config: ml_collections.ConfigDict, num_images: int) -> str:
    """A config and its number of training images -> a line on the weights it starts from."""
    path, backbone = config.init_from.path, config.model.backbone
    if path == "imagenet":
        return f"Starting from ImageNet's weights of keras.applications ({backbone})."
    if path:
        return f"Starting from the weights in {path} ({config.init_from.part})."
    return (
        f"Starting from random weights ({backbone}): they need thousands of images, and there are "
        f"{num_images}. To start from ImageNet's, a download of 94 MB, add\n"
        f"  --config.model.backbone={IMAGENET_BACKBONE} --config.init_from.path=imagenet"
    )
