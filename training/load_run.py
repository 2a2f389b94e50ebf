"""A run's folder -> its network with its weights, in Keras."""

import os
import pathlib

import keras

from model.deeplabv3 import deeplabv3, with_new_classifier
from training.checkpoints import load_weights, run_of_checkpoint
from training.run_folder import read_config


def load_run(
    run: str | os.PathLike[str],
    checkpoint: str | int = "last",
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
) -> keras.Model:
    """A run's folder -> its model of deeplabv3, with the weights of one of its checkpoints.

    The names of its classes are in the run's data.json (training.run_folder.read_data).

    Args:
      run: the folder that train.py wrote.
      checkpoint: "last", "best", or a step that is kept.
      num_classes: of a new, random classifier. None: the run's classifier.
      output_stride: None: that of the run's training.

    Raises:
      FileNotFoundError: the folder is not a run's, or has no checkpoint yet.
      ValueError: the checkpoint is not kept or is damaged, or run is a file.
    """
    run = pathlib.Path(run)
    if found := run_of_checkpoint(run):
        raise ValueError(f"{run} belongs to a run: use load_run({str(found[0])!r}, {found[1]!r}).")
    if run.is_file():
        raise ValueError(
            f"{run} is a file, not a run's folder: third-party weights are read by load_model of "
            "pretrained/load_model.py."
        )
    arguments = dict(read_config(run).model)
    if output_stride is not None:
        arguments["output_stride"] = output_stride
    model = deeplabv3(**arguments)
    load_weights(model, run, checkpoint)
    return model if num_classes is None else with_new_classifier(model, num_classes)
