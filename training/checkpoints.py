"""A run's checkpoints: saved, found, restored, and read into a model."""

import functools
import json
import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.files import write_json
from data.terminal import first_line

NUM_KEPT = 3  # Checkpoints in RUN/checkpoints: the last ones.
KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # Of every variable's key in a checkpoint.


class Checkpoints:
    """A run's checkpoints: the last ones in RUN/checkpoints, the best evaluation's in RUN/best.

    Args:
      run: the run's folder.
      model: whose weights are kept.
      state: everything that the next step depends on; the model's weights alone if None.
    """

    def __init__(
        self, run: pathlib.Path, model: keras.Model, state: tf.train.Checkpoint | None = None
    ):
        self._run, self.folder = run, run / "checkpoints"
        self._weights = tf.train.Checkpoint(model=weights_by_name(model))
        self._state = state or self._weights

    def exist(self) -> bool:
        """Whether the run has saved steps."""
        return bool(checkpoints_in(self.folder))

    def save(self, step: int) -> None:
        """Writes the state after a step, and deletes the oldest beyond NUM_KEPT."""
        self._manager.save(step)

    def restore(self) -> int | None:
        """Fills the state from the newest undamaged checkpoint -> its step; None if there is none.

        A damaged one is passed over, with a warning. Raises ValueError where all of them are
        damaged, or of another model.
        """

        def restore(path):
            _restore(self._state, path)
            return step_of(path)

        return _first_undamaged(checkpoints_in(self.folder), restore)

    def save_best(self, step: int, miou: float, chosen_on: str) -> None:
        """Keeps the weights in RUN/best if no evaluation before had as high an mIoU.

        best.json says which step they are from, and on which split they were chosen.
        """
        if (best := read_best(self._run)) and best["miou"] >= miou:
            return
        tf.train.CheckpointManager(self._weights, self._run / "best", max_to_keep=1).save(step)
        write_json(self._run / "best.json", {"step": step, "miou": miou, "chosen_on": chosen_on})

    def write_list(self) -> None:
        """Writes TensorFlow's own list of the checkpoints anew, since it may have been lost."""
        if paths := checkpoints_in(self.folder):
            times = [os.path.getmtime(f"{path}.index") for path in paths]
            tf.compat.v1.train.update_checkpoint_state(
                str(self.folder), paths[0], paths[::-1], all_model_checkpoint_timestamps=times[::-1]
            )

    @functools.cached_property
    def _manager(self):
        return tf.train.CheckpointManager(self._state, self.folder, max_to_keep=NUM_KEPT)


def read_best(run: pathlib.Path) -> dict[str, Any] | None:
    """A run's folder -> the content of best.json (step, miou, chosen_on); None if it is missing."""
    file = run / "best.json"
    return json.loads(file.read_text()) if file.exists() else None


def weights_by_name(model: keras.Model) -> dict[str, tf.Variable]:
    """A model -> `layer/weight` and the variable.

    The names do not depend on output_stride, so that a checkpoint fits a model at any other.
    """
    return {weight.path: weight.value for weight in model.weights}


def copy_weights(source: keras.Model, model: keras.Model) -> None:
    """Fills a model with the weights of another one, which may have another output_stride."""
    weights = weights_by_name(source)
    for name, variable in weights_by_name(model).items():
        variable.assign(weights[name])


def load_weights(model: keras.Model, run: pathlib.Path, checkpoint: str | int = "last") -> int:
    """Fills a model with weights of a run -> the step they are from.

    Args:
      model: has the run's layers; its output_stride may be another.
      run: the run's folder.
      checkpoint: "last", the newest undamaged one; "best", of all evaluations during training; or
        a step that is kept.

    Raises FileNotFoundError where there are none, ValueError where a step is not kept or the
    weights do not fit the model.
    """
    if checkpoint == "last":
        step = Checkpoints(run, model).restore()
        if step is not None:
            return step
    kept = kept_checkpoints(run)
    if not kept:
        raise FileNotFoundError(
            f"{run} has no checkpoint. train.py writes the first within minutes; runs that were "
            "published or copied without their weights have none."
        )
    if str(checkpoint) not in kept:
        raise ValueError(
            f"{run} does not keep the checkpoint {checkpoint}; there are "
            + ", ".join(
                name if name.isdecimal() else f"{name} (step {step_of(path)})"
                for name, path in kept.items()
            )
            + "."
        )
    path = kept[str(checkpoint)]
    _restore(tf.train.Checkpoint(model=weights_by_name(model)), path)
    return step_of(path)


def kept_checkpoints(run: pathlib.Path) -> dict[str, str]:
    """A run's folder -> its checkpoints by what --checkpoint calls them: last, best, a step."""
    last, best = (checkpoints_in(run / folder) for folder in ("checkpoints", "best"))
    named = {"last": last[:1], "best": best[:1]}
    by_step = {str(step_of(path)): path for path in (*best, *last)}
    steps = sorted(by_step, key=int)
    return {name: paths[0] for name, paths in named.items() if paths} | {
        step: by_step[step] for step in steps
    }


def run_of_checkpoint(path: pathlib.Path) -> tuple[pathlib.Path, str] | None:
    """RUN/best, RUN/checkpoints or a checkpoint in them -> the run, and last, best or a step.

    None for another path.
    """
    names = {"best": "best", "checkpoints": "last"}
    folder = path if path.name in names else path.parent
    if folder.name not in names or not (folder.parent / "config.json").exists():
        return None
    if path != folder and folder.name == "checkpoints":
        return folder.parent, path.name.removeprefix("ckpt-").removesuffix(".index")
    return folder.parent, names[folder.name]


def step_of(path: str) -> int:
    """A checkpoint's path -> the step that it is from."""
    return int(path.rpartition("-")[2])


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A run's folder, a folder of checkpoints or a checkpoint -> its weights, as `layer/weight`.

    Of several checkpoints it is the newest undamaged one. Raises FileNotFoundError where there is
    none, ValueError where all are damaged or hold no model of this project.
    """
    paths = checkpoints_in(path / "checkpoints") or checkpoints_in(path)
    if pathlib.Path(f"{path}.index").exists():
        paths = [str(path)]
    if not paths:
        raise FileNotFoundError(
            f"There is no checkpoint in {path} to start from: train that run first, or name "
            "another one with --config.init_from.path."
        )
    return _first_undamaged(paths, _read)


def checkpoints_in(folder: pathlib.Path) -> list[str]:
    """A folder -> its checkpoints, the newest first.

    By their own files: the one named `checkpoint`, which lists them, may have been lost.
    """
    steps = [path.stem.removeprefix("ckpt-") for path in folder.glob("ckpt-*.index")]
    return [str(folder / f"ckpt-{step}") for step in sorted(map(int, steps), reverse=True)]


def _read(path):
    try:
        reader = tf.train.load_checkpoint(path)
        keys = reader.get_variable_to_shape_map()
        keys = [key for key in keys if key.startswith("model/") and key.endswith(KEY_SUFFIX)]
        values = [reader.get_tensor(key) for key in keys]
    except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error
    if not keys:
        raise ValueError(f"{path} does not hold a model of this project.")
    names = [key.removeprefix("model/").removesuffix(KEY_SUFFIX) for key in keys]
    return {name.replace(".S", "/"): value for name, value in zip(names, values, strict=True)}


def _restore(checkpoint, path):
    """Fills all of a checkpoint's variables from a file, which may hold more."""
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path} is damaged or of another model: {first_line(error)}") from error


def _first_undamaged(paths, use):
    """Checkpoints and a function of one -> its value for the first that is not damaged.

    A damaged one is passed over, with a warning. Raises ValueError where all of them are.
    """
    for path in paths:
        try:
            return use(path)
        except ValueError as error:
            if path == paths[-1]:
                raise
            print(f"warning: {error}\nUsing an older one.", flush=True)
