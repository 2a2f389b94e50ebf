"""Other people's segmentation models as runs, to be evaluated, exported and used as ours are."""

import hashlib
import json
import pathlib
import shlex
import tempfile

import ml_collections
import tensorflow as tf

from data.classes import VOC_CLASS_NAMES, voc_palette
from data.features import class_metadata
from data.files import write_json, write_text
from experiments import base
from model.deeplabv3 import build_model
from pretrained.initialize import describe
from pretrained.open_weights import is_checkpoint, named_file, open_weights
from pretrained.weights import Weights, load
from training.checkpoints import checkpoint_manager, weights_by_name

IMPORTED = pathlib.Path("runs/imported")


def as_run(path: str) -> pathlib.Path:
    """A run's folder, or a segmentation model of other people -> a run's folder.

    torchvision's deeplabv3 (.pth) and the authors' deeplab checkpoints become runs/imported/NAME,
    with VOC's classes, once: step 0 of a training that we do not know. A folder stays as it is.
    Raises ValueError where it holds a backbone alone, other classes, or is a checkpoint of a run.
    """
    file = named_file(path)
    if not is_checkpoint(file):
        return file
    # The authors name all of their checkpoints alike, and not their folders.
    name = file.stem if file.is_file() else f"{file.resolve().parent.name}_{file.name}"
    run, source = IMPORTED / name, {"path": path, "sha256": _sha256(file)}
    if not (run / "data.json").exists():
        weights = open_weights(path, backbone="")
        _check(path, weights)
        _write(run, weights, _config(path, run, weights), source)
        told = ", ".join(f"{name} {value}" for name, value in weights.model.items())
        print(f"{path} -> {run}: {told}", flush=True)
    if json.loads((run / "data.json").read_text())["source"]["sha256"] != source["sha256"]:
        raise ValueError(
            f"{run} was imported from another file than {path}. Move that folder, or rename the "
            "file."
        )
    return run


def _check(path, weights):
    if not weights.names:
        raise ValueError(f"{path} is a checkpoint of a run: name the run's folder.")
    num_classes = weights.model.get("num_classes")
    if num_classes is None:
        raise ValueError(
            f"{path} holds a backbone alone, which segments nothing yet. Train from it: "
            f"{_training(path, weights)}"
        )
    if num_classes != len(VOC_CLASS_NAMES):
        raise ValueError(
            f"{path} has {num_classes} classes, and only VOC's 21 are known by name. Train from "
            f"it, on a data set of its classes or others: {_training(path, weights)}"
        )


def _training(path, weights):
    """Weights of others -> the command that trains from all of them but their logits."""
    command = ["python train.py --config=experiments/base.py"]
    for field in ("backbone", "head", "multi_grid", "atrous_rates", "image_pooling"):
        value = weights.model.get(field, base.get_config().model[field])
        if value != base.get_config().model[field]:
            command.append(f"--config.model.{field}={shlex.quote(str(value).replace(' ', ''))}")
    command.append(f"--config.init_from.path={path}")
    if "num_classes" in weights.model:
        command.append("--config.init_from.part=without_logits")
    return " ".join(command)


def _config(path: str, run: pathlib.Path, weights: Weights) -> ml_collections.ConfigDict:
    """Weights of a whole model -> the config of a run that has taken no step."""
    config = base.get_config()
    config.update_from_flattened_dict(
        {
            "name": f"imported/{run.name}",
            "steps": 0,
            "init_from.path": path,
            "init_from.part": "whole",
            "eval.output_stride": weights.model["output_stride"],
        }
    )
    config.model.update({**weights.model, "batch_norm_decay": config.model.batch_norm_decay})
    return config


def _write(run, weights, config, source):
    """Makes the run's folder beside its place, then renames it, so that it is whole or not there.

    Raises ValueError where the weights are not all that the model has.
    """
    model = build_model(config)
    path = config.init_from.path
    try:
        report = load(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    print(describe(path, weights, report), flush=True)
    classes = class_metadata(VOC_CLASS_NAMES, voc_palette()[: len(VOC_CLASS_NAMES)])
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=f".{run.name}_") as beside:
        new = pathlib.Path(beside) / "new"
        checkpoint_manager(tf.train.Checkpoint(model=weights_by_name(model)), new).save(0)
        write_text(new / "config.json", config.to_json(indent=2) + "\n")
        write_json(new / "data.json", {"source": source, **classes})
        try:
            new.rename(run)
        except OSError:
            if not (run / "data.json").exists():
                raise  # Otherwise another program was faster.


def _sha256(file):
    """The files of a checkpoint, or a file -> their hash."""
    parts = [file] if file.is_file() else sorted(file.parent.glob(f"{file.name}.[di]*"))
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
