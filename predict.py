r"""Segments photos: a mask and an overlay with a legend for each.

    python predict.py --run=runs/shapes/base photo.jpg folder/ 'more/*.webp'
    python predict.py --run=runs/shapes/base --checkpoint=best photo.jpg
    python predict.py --saved_model=runs/shapes/base/saved_model photo.jpg
    python predict.py --run=runs/base --output_stride=8 --flip photo.jpg

It writes PHOTO_mask.png (class ids, with the classes' colors as its palette) and PHOTO_overlay.jpg
into --output. A photo that cannot be read is named and skipped, and the exit code is 1 then. Photos
over 8 megapixels are predicted in pieces. Their margins hold the pixels that a prediction depends
on, up to 1024 pixels away (a cascade of seven blocks looks further); image-level features are those
of the piece in place of the whole photo. ResNet-101 takes at most 5 GB of memory, twice that with
--flip.
"""

import io
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

from experiments import base
from experiments.command_line import (
    define_checkpoint,
    define_output_stride,
    define_run,
    parse_flags,
    run_program,
)

RUN, CHECKPOINT = define_run(required=False), define_checkpoint()
OUTPUT_STRIDE = define_output_stride()
SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "SavedModel written by export.py; use instead of --run."
)
OUTPUT = flags.DEFINE_string("output", "predictions", "Folder for the results.")
FLIP = flags.DEFINE_bool(
    "flip", False, "Average predictions over the photo and its horizontal flip; twice the time."
)
if __name__ == "__main__":
    ARGUMENTS = parse_flags(takes_arguments=True)  # Before TensorFlow is imported.

import numpy as np
import tensorflow as tf

from data.files import write_bytes
from data.photos import draw_overlay, find_photos, read_photo
from data.pictures import full_palette, mask_png
from data.terminal import track
from evaluation.prediction import make_predictor, predict_in_pieces, prediction_margin
from model.deeplabv3 import HEADS, deeplabv3
from pretrained.import_run import import_run
from training.checkpoints import load_weights
from training.run_folder import read_config, read_data

MAX_NAME_BYTES = 255  # Of a file, on the file systems of Linux, macOS and Windows.


class Predictor(NamedTuple):
    """What predicts, and what is known of its classes."""

    predict: Callable[[np.ndarray], np.ndarray]  # [B, H, W, 3] uint8 -> [B, H, W] class ids.
    class_names: list[str]
    palette: list[list[int]]
    margin: int  # How far from a pixel its prediction looks.
    corners: str  # "aligned" or "half_pixel", as model.deeplabv3.HEADS has it.


def from_run(run: pathlib.Path) -> Predictor:
    """A run's folder -> the weights of --checkpoint as a Predictor."""
    config = read_config(run)
    output_stride = OUTPUT_STRIDE.value
    if output_stride is None:
        output_stride = config.eval.output_stride
    data = read_data(run)
    if len(data["class_names"]) != config.model.num_classes:
        raise ValueError(
            f"{run} predicts {config.model.num_classes} classes, and its data.json names "
            f"{len(data['class_names'])}."
        )
    arguments = {**config.model, "output_stride": output_stride}
    model = deeplabv3(**arguments)
    step = load_weights(model, run, CHECKPOINT.value)
    print(f"{run}: checkpoint {CHECKPOINT.value}, step {step}", flush=True)
    return Predictor(
        make_predictor(model, flip=FLIP.value),
        data["class_names"],
        data["palette"],
        prediction_margin(**arguments),
        HEADS[config.model.head],
    )


def from_saved_model(folder: pathlib.Path) -> Predictor:
    """A SavedModel by export.py -> a Predictor. Raises ValueError for another SavedModel."""
    if OUTPUT_STRIDE.value is not None or FLIP.value or CHECKPOINT.value != "last":
        raise ValueError(
            "A SavedModel predicts as it was exported: leave --output_stride, --flip and "
            "--checkpoint out."
        )
    if not (folder / "saved_model.pb").exists():
        raise FileNotFoundError(f"{folder} is not a SavedModel; export.py writes one.")
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")  # Faster; see docs/export.md.
    loaded = tf.saved_model.load(str(folder))
    data: dict[str, Any] = {}
    if hasattr(loaded, "data"):
        data = json.loads(pathlib.Path(loaded.data.asset_path.numpy().decode()).read_text())
    fields = Predictor._fields[1:]
    if not set(fields) <= data.keys():
        raise ValueError(
            f"{folder} lacks the data.json that names its classes: it was not written by export.py."
        )
    return Predictor(loaded, *(data[field] for field in fields))


def check_names(photos: list[pathlib.Path], output: pathlib.Path) -> None:
    """Raises ValueError if the results of a photo cannot be written, or would replace a file."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output={output} is a file; name a folder.")
    if any(file.parent == output.absolute() for file in photos):
        raise ValueError(
            f"--output={output} holds photos, and the results could overwrite files of yours: name "
            "another folder."
        )
    by_stem = {}
    for file in photos:
        if len(os.fsencode(f"{file.stem}_overlay.jpg")) > MAX_NAME_BYTES:
            raise ValueError(f"{file} has too long a name for its results; rename it.")
        if (other := by_stem.setdefault(file.stem, file)) != file:
            raise ValueError(
                f"{other} and {file} would both be written to {output / file.stem}_mask.png: "
                "predict them one after the other, each into an --output of its own."
            )


def main(arguments: list[str]) -> None:
    if bool(RUN.value) == bool(SAVED_MODEL.value):
        raise ValueError("Name a --run or a --saved_model.")
    photos = find_photos(arguments[1:])
    if not photos:
        raise ValueError("Name photos, or a folder of them, after the flags.")
    output = pathlib.Path(OUTPUT.value)
    check_names(photos, output)
    if RUN.value:
        predictor = from_run(import_run(RUN.value, base.as_data(base.get_config())))
    else:
        predictor = from_saved_model(pathlib.Path(SAVED_MODEL.value))
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for file in track(photos, "photo", len(photos)):
        try:
            photo = read_photo(file)
        except (ValueError, OSError) as error:
            print(f"error: {error} Skipped.", file=sys.stderr, flush=True)
            failed += 1
            continue
        write_prediction(predictor, photo, output, file.stem)
    unread = f"; {failed} could not be read" if failed else ""
    print(f"{len(photos) - failed} of {len(photos)} photos -> {output}{unread}.")
    if failed:
        sys.exit(1)


def write_prediction(
    predictor: Predictor, photo: np.ndarray, output: pathlib.Path, name: str
) -> None:
    """[H, W, 3] uint8 photo -> NAME_mask.png and NAME_overlay.jpg in the output folder."""
    class_ids = predict_in_pieces(
        predictor.predict, photo, margin=predictor.margin, corners=predictor.corners
    )
    names = predictor.class_names
    if class_ids.max() >= len(names):
        raise ValueError(
            f"Class {class_ids.max()} is predicted, and only {len(names)} have names: these "
            "weights are of another set of classes."
        )
    palette = full_palette(predictor.palette)
    write_bytes(output / f"{name}_mask.png", mask_png(class_ids, palette))
    jpeg = io.BytesIO()
    draw_overlay(photo, class_ids, palette, names).save(jpeg, "JPEG", quality=90)
    write_bytes(output / f"{name}_overlay.jpg", jpeg.getvalue())


if __name__ == "__main__":
    run_program(main, ARGUMENTS)
