"""A run: one training, in a folder that holds its config, its checkpoints and its scores."""

import json
import os
import pathlib
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from data.build import audit_hash
from data.files import write_json, write_text

NUM_CHECKPOINTS = 3  # Kept: the last ones.
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # Ends a variable's key in a checkpoint.


def open_run(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder of a new run, or finds that a run of the same config is there.

    Raises FileExistsError, with the fields that differ, where it is a run of another config.
    """
    config_file = workdir / "config.json"
    ours = flat(config)
    if config_file.exists():
        theirs = flat(read_config(workdir))
        if differing := [k for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k)]:
            raise FileExistsError(
                f"{workdir} is a run of another config; choose another --workdir. They differ in\n"
                + "\n".join(f"  {k}: {theirs.get(k)} there, {ours.get(k)} here" for k in differing)
            )
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(config_file, config.to_json(indent=2) + "\n")


def write_data(run: pathlib.Path, builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Writes data.json: what a run is trained on, and what its class ids mean.

    It holds the names and colours of the classes, for whoever has the run but not the data, and the
    hash of the data set's audit, null where there was none. Raises FileExistsError where the run
    began on other data, since its position in them would mean nothing.
    """
    data = {
        "dataset": builder.info.full_name,
        "split": split,
        "num_images": builder.info.splits[split].num_examples,
        "audit": audit_hash(builder),
        **builder.info.metadata,
    }
    file = run / "data.json"
    before = json.loads(file.read_text()) if file.exists() else data
    if differing := [key for key in data if key != "audit" and data[key] != before.get(key)]:
        raise FileExistsError(
            f"{run} began on other data: {', '.join(differing)} in {file} differ. Choose another "
            "--workdir, or build the data set as it was."
        )
    write_json(file, data)


def read_data(run: pathlib.Path) -> dict[str, Any]:
    """What write_data wrote. Raises FileNotFoundError or ValueError where it cannot be had."""
    file = run / "data.json"
    try:
        data = json.loads(file.read_text())
        if len(data["class_names"]) != len(data["palette"]):
            raise ValueError("its classes and colours are not as many")
        return data
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} has no data.json, which names its classes. train.py writes it: give the run's "
            "command again."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: {error!r}.") from error


def flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> its dotted fields and their values, as JSON has them."""
    return _flatten(json.loads(config.to_json()))


def _flatten(group, prefix=""):
    fields = {}
    for name, value in group.items():
        if isinstance(value, dict):
            fields |= _flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def read_config(run: pathlib.Path) -> ml_collections.ConfigDict:
    """A run's folder -> the config it was trained with. Raises ValueError where it is no run."""
    config_file = run / "config.json"
    try:
        config = json.loads(config_file.read_text())
        config["model"].setdefault("head", "paper")  # Older runs had no other, and did not say.
        config["eval"] = {"scales": [1.0], "flip": False, **config["eval"]}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} is no run: it has no config.json. A run is made by train.py --workdir={run}"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{config_file} is damaged: {error!r}") from error
    return ml_collections.ConfigDict(config)


def weights_by_name(model: keras.Model) -> dict[str, tf.Variable]:
    """A model -> `layer/weight` and the variable.

    The names say nothing of output_stride, so that a checkpoint fits a model at any other.
    """
    return {weight.path: weight.value for weight in model.weights}


def checkpoints_in(folder: pathlib.Path) -> list[str]:
    """A folder -> its checkpoints, the newest first.

    By their own files: the one named `checkpoint`, which lists them, may have been lost.
    """
    steps = [path.stem.removeprefix("ckpt-") for path in folder.glob("ckpt-*.index")]
    return [str(folder / f"ckpt-{step}") for step in sorted(map(int, steps), reverse=True)]


def step_of(path: str) -> int:
    """A checkpoint -> the step it was written after."""
    return int(path.rpartition("-")[2])


def checkpoint_manager(
    checkpoint: tf.train.Checkpoint, run: pathlib.Path
) -> tf.train.CheckpointManager:
    """Writes a run's checkpoints, numbered by their step, and deletes old ones."""
    folder = run / "checkpoints"
    if there := checkpoints_in(folder):  # What lists them is made anew, whatever it was.
        times = [os.path.getmtime(f"{path}.index") for path in there]
        tf.compat.v1.train.update_checkpoint_state(
            str(folder), there[0], there[::-1], all_model_checkpoint_timestamps=times[::-1]
        )
    return tf.train.CheckpointManager(checkpoint, folder, max_to_keep=NUM_CHECKPOINTS)


def has_checkpoint(run: pathlib.Path) -> bool:
    """Whether a run has saved steps."""
    return bool(checkpoints_in(run / "checkpoints"))


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A run's folder, a folder of checkpoints or a checkpoint -> its weights, as `layer/weight`.

    Of several checkpoints it is the newest that is whole. Raises FileNotFoundError where there is
    none, ValueError where all are damaged or hold none of our models.
    """
    paths = checkpoints_in(path / "checkpoints") or checkpoints_in(path)
    if pathlib.Path(f"{path}.index").exists():
        paths = [str(path)]
    if not paths:
        raise FileNotFoundError(
            f"There is no checkpoint in {path} to start from: train that run first, or name "
            "another one with --config.init_from.path."
        )
    return _newest_whole(paths, _read)


def _read(path):
    try:
        reader = tf.train.load_checkpoint(path)
        keys = reader.get_variable_to_shape_map()
        keys = [key for key in keys if key.startswith("model/") and key.endswith(VALUE)]
        values = [reader.get_tensor(key) for key in keys]
    except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0][:300]}") from error
    if not keys:
        raise ValueError(f"{path} holds no model of this project.")
    names = [key.removeprefix("model/").removesuffix(VALUE).replace(".S", "/") for key in keys]
    return dict(zip(names, values, strict=True))


def _newest_whole(paths, use):
    """Checkpoints and what is to be done with one -> what it gives for the first that is whole.

    One that is damaged is passed over, with a warning. Raises ValueError where all of them are.
    """
    for path in paths:
        try:
            return use(path)
        except ValueError as error:
            if path == paths[-1]:
                raise
            print(f"warning: {error}\nAn older one is taken.", flush=True)


def load_weights(model: keras.Model, run: pathlib.Path) -> int:
    """Fills a model with the newest weights of a run that are whole -> the step they are from.

    Raises FileNotFoundError where there are none, ValueError where they do not fit the model.
    """
    step = restore_newest(tf.train.Checkpoint(model=weights_by_name(model)), run)
    if step is None:
        raise FileNotFoundError(f"{run} has no checkpoint yet; train.py writes one as it goes.")
    return step


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Fills all of a checkpoint's variables from a file, which may hold more.

    Raises ValueError where it is damaged, or lacks a variable or has another shape for it.
    """
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:300]
        raise ValueError(f"{path} is damaged or of another model: {reason}") from error


def restore_newest(checkpoint: tf.train.Checkpoint, run: pathlib.Path) -> int | None:
    """Fills a checkpoint's variables from a run's newest checkpoint that is whole -> its step.

    None where the run has none. One that is damaged is passed over, with a warning. Raises
    ValueError where all of them are, or are of another model.
    """

    def use(path):
        restore(checkpoint, path)
        return step_of(path)

    return _newest_whole(checkpoints_in(run / "checkpoints"), use)


def copy_weights(source: keras.Model, model: keras.Model) -> None:
    """Fills a model with the weights of another one, which may have another output_stride."""
    weights = weights_by_name(source)
    for name, variable in weights_by_name(model).items():
        variable.assign(weights[name])
