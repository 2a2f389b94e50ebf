r"""Writes a run as a SavedModel: uint8 images of any size in, class ids out.

    python export.py --run=runs/shapes/base
    python export.py --run=runs/shapes/base --output_stride=8 --output=somewhere/else

The SavedModel needs TensorFlow alone, none of this project:

    segment = tf.saved_model.load("runs/shapes/base/saved_model")
    class_ids = segment(images)  # [B, H, W, 3] uint8 RGB -> [B, H, W] uint8
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from data.files import write_json
from experiments.evaluation import predictor
from experiments.imported import as_run
from experiments.runs import build_model, load_weights, margin_of, read_config, read_data
from experiments.terminal import run_program
from model.deeplabv3 import corners_of

RUN = flags.DEFINE_string(
    "run", None, "The run's folder; or others' model, see README.", required=True
)
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own for eval if not given.")
OUTPUT = flags.DEFINE_string(
    "output", None, "The SavedModel's folder; RUN/saved_model if not given."
)

CHECKED_SIZES = ((75, 50), (1, 129))  # Pixels; one that padding changes, and a thin one.


class Segmenter(tf.Module):
    """[B, H, W, 3] uint8 RGB images -> [B, H, W] uint8 class ids, at any size.

    data_file: goes along as an asset: the run's data.json, which names the classes, and the
    margin that pieces of a large photo need.
    """

    def __init__(
        self, model: keras.Model, *, backbone: str, output_stride: int, data_file: pathlib.Path
    ):
        super().__init__()
        self.data = tf.saved_model.Asset(str(data_file))
        self.model = model  # So that its variables are saved.
        self.__call__ = predictor(model, backbone=backbone, output_stride=output_stride)

        @tf.function(input_signature=self.__call__.input_signature)
        def serve(images):
            return {"class_ids": self.__call__(images)}

        self.serve = serve


def export(segmenter: Segmenter, folder: pathlib.Path) -> None:
    """Writes a SavedModel into folder, in place of one that is there, once it is seen to agree.

    Raises ValueError, and leaves folder as it was, where it would be overwritten and is no
    SavedModel, or where what was written does not give the same class ids.
    """
    if folder.exists() and not (folder / "saved_model.pb").exists():
        raise ValueError(f"{folder} is there and is no SavedModel; choose another --output.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}_") as beside:
        written = pathlib.Path(beside) / "new"
        tf.saved_model.save(
            segmenter, str(written), signatures={"serving_default": segmenter.serve}
        )
        loaded = tf.saved_model.load(str(written))
        for size in CHECKED_SIZES:
            images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
            if not np.array_equal(loaded(images), segmenter.__call__(images)):
                raise ValueError("The SavedModel gives other class ids than the model: no export.")
        if folder.exists():
            shutil.move(folder, pathlib.Path(beside) / "old")
        written.rename(folder)


def main(_) -> None:
    run = as_run(RUN.value)
    config = read_config(run)
    data = read_data(run)
    output_stride = OUTPUT_STRIDE.value
    if output_stride is None:
        output_stride = config.eval.output_stride
    model = build_model(config, output_stride=output_stride)
    step = load_weights(model, run)
    folder = pathlib.Path(OUTPUT.value or run / "saved_model")
    with tempfile.TemporaryDirectory() as beside:
        data_file = pathlib.Path(beside) / "data.json"
        pieces = {"margin": margin_of(config, output_stride), "corners": corners_of(model)}
        write_json(data_file, {**data, **pieces})
        segmenter = Segmenter(
            model,
            backbone=config.model.backbone,
            output_stride=output_stride,
            data_file=data_file,
        )
        export(segmenter, folder)
    print(f"{run}, step {step}, output_stride {output_stride} -> {folder}")


if __name__ == "__main__":
    run_program(main)
