"""A run's checkpoints: saved, found, restored, and read into a model."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

NUM_CHECKPOINTS = 3  # Kept: the last ones.
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # Ends a variable's key in a checkpoint.


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
