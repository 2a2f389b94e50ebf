"""A third-party segmentation model -> a run folder, to be evaluated, exported and used like one."""

import hashlib
import json
import pathlib
import shlex
import tempfile
from collections.abc import Mapping
from typing import Any

from data.classes import VOC_CLASS_NAMES, voc_palette
from data.features import class_metadata
from data.files import write_json
from model.deeplabv3 import deeplabv3
from model.mobilenet import MOBILENETS
from pretrained.initialize import describe
from pretrained.mobilenet_weights import NETWORK
from pretrained.open_weights import is_checkpoint, named_file, open_weights
from pretrained.weights import Weights, load
from training.checkpoints import Checkpoints, run_of_checkpoint

IMPORT_FOLDER = pathlib.Path("runs/imported")


def import_run(path: str, config: Mapping[str, Any]) -> pathlib.Path:
    """A run's folder, or a third-party segmentation model -> a run's folder.

    torchvision's deeplabv3 (.pth), and the authors' deeplab checkpoints and .tflite files, become
    runs/imported/NAME, with VOC's classes, once: step 0 of an unknown training run. A folder stays
    as it is.

    Args:
      path: of the folder, the file or the checkpoint.
      config: the paper's, as plain data; the imported run's differs where its model does.

    Raises:
      ValueError: the file holds a backbone only or other classes than VOC's, is a checkpoint of a
        run, or its name was imported before from another file.
    """
    file = named_file(path)
    _refuse_checkpoint_of_run(file)
    if not is_checkpoint(file):
        return file
    # The authors name all of their checkpoints alike, and not their folders.
    name = file.stem if file.is_file() else f"{file.resolve().parent.name}_{file.name}"
    run, source = IMPORT_FOLDER / name, {"path": path, "sha256": _sha256(file)}
    if not (run / "data.json").exists():
        weights = open_weights(path, backbone="")
        _check(path, weights, config)
        _write(run, weights, _config(path, run, weights, config), source)
        arguments = ", ".join(f"{name} {value}" for name, value in weights.model.items())
        print(f"{path} -> {run}: {arguments}", flush=True)
    if json.loads((run / "data.json").read_text())["source"]["sha256"] != source["sha256"]:
        raise ValueError(
            f"{run} was imported from another file than {path}. Move that folder, or rename the "
            "file."
        )
    return run


def _refuse_checkpoint_of_run(file):
    """Raises ValueError, with the flags, for RUN/best, RUN/checkpoints and a checkpoint in them."""
    if found := run_of_checkpoint(file):
        raise ValueError(f"{file} belongs to a run: use --run={found[0]} --checkpoint={found[1]}")


def _check(path, weights, config):
    if not weights.source_names:
        raise ValueError(f"{path} is a checkpoint of a run: name the run's folder.")
    num_classes = weights.model.get("num_classes")
    if num_classes is None:
        raise ValueError(
            f"{path} holds a backbone only, which does not segment yet. Train from it: "
            f"{_train_command(path, weights, config)}"
        )
    if num_classes != len(VOC_CLASS_NAMES):
        raise ValueError(
            f"{path} has {num_classes} classes; names are known for VOC's 21 only. Train from it, "
            "on a data set with its classes or others: "
            f"{_train_command(path, weights, config)}"
        )


def _train_command(path, weights, config):
    """The command that trains from all of the weights but their logits."""
    start, model = "experiments/base.py", config["model"]
    if weights.model["backbone"] in MOBILENETS:  # They have a scale, which sets these fields.
        start, model = f"{start}:voc_mobile", {**model, "backbone": "mobilenet_v2", **NETWORK}
    command = [f"python train.py --config={start}"]
    for field in ("backbone", "head", "multi_grid", "atrous_rates", "image_pooling"):
        value = weights.model.get(field)
        if value is not None and _as_json(value) != _as_json(model[field]):
            command.append(f"--config.model.{field}={shlex.quote(str(value).replace(' ', ''))}")
    command.append(f"--config.init_from.path={shlex.quote(path)}")
    if "num_classes" in weights.model:
        command.append("--config.init_from.part=without_logits")
    return " ".join(command)


def _config(path: str, run: pathlib.Path, weights: Weights, config: Mapping[str, Any]):
    """Weights of a whole model -> the config of a run that has taken no step, as plain data."""
    decay = config["model"]["batch_norm_decay"]
    return {
        **config,
        "name": f"imported/{run.name}",
        "steps": 0,
        "init_from": {**config["init_from"], "path": path, "part": "whole"},
        "model": {**config["model"], **weights.model, "batch_norm_decay": decay},
        "eval": {**config["eval"], "output_stride": weights.model["output_stride"]},
    }


def _write(run, weights, config, source):
    """Writes the run's folder beside its place, then renames it: a partial one is never visible.

    Raises ValueError where the model has weights that the source lacks.
    """
    model = deeplabv3(**config["model"])
    path = config["init_from"]["path"]
    try:
        report = load(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    print(describe(path, weights, report), flush=True)
    classes = class_metadata(VOC_CLASS_NAMES, voc_palette()[: len(VOC_CLASS_NAMES)])
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=f".{run.name}_") as beside:
        new = pathlib.Path(beside) / "new"
        Checkpoints(new, model).save(0)
        write_json(new / "config.json", config)
        write_json(new / "data.json", {"source": source, **classes})
        try:
            new.rename(run)
        except OSError:
            if not (run / "data.json").exists():
                raise  # Otherwise another program was faster.


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def _sha256(file):
    """A file, or the files of a checkpoint -> their hash."""
    parts = [file] if file.is_file() else sorted(file.parent.glob(f"{file.name}.[di]*"))
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
