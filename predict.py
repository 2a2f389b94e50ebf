r"""Segments photos: a mask and an overlay with a legend for each.

    python predict.py --run=runs/shapes/base photo.jpg folder/ 'more/*.webp'
    python predict.py --saved_model=runs/shapes/base/saved_model photo.jpg
    python predict.py --run=runs/base --output_stride=8 --flip photo.jpg

It writes PHOTO_mask.png (class ids, with the classes' colours as its palette) and PHOTO_overlay.jpg
into --output. A photo that cannot be read is named and passed over, and the exit code is 1 then.
Photos over 8 megapixels are predicted in pieces, whose margins hold what a pixel of theirs sees, up
to 1024 pixels away (a cascade of seven blocks sees further); the image-level features see the piece
in place of the whole photo. ResNet-101 takes 5 GB of memory at most, twice that with --flip.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import io
import json
import pathlib
import sys
from collections.abc import Callable

import tensorflow as tf
from absl import flags

from data.files import write_bytes
from data.photos import draw_overlay, find_photos, read_photo
from data.pictures import full_palette, mask_png
from data.terminal import track
from evaluation.prediction import in_pieces, margin_of, predictor
from experiments.command_line import run_program
from model.deeplabv3 import HEADS, build_model
from pretrained.import_run import as_run
from training.checkpoints import load_weights
from training.run_folder import read_config, read_data

RUN = flags.DEFINE_string("run", None, "A run's folder; or others' model, see README.")
SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Or a SavedModel, as export.py wrote it.")
OUTPUT = flags.DEFINE_string("output", "predictions", "The folder that is written to.")
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own if not given.")
FLIP = flags.DEFINE_bool("flip", False, "Whether mirrored too, which takes twice the time.")


def from_run(run: pathlib.Path) -> tuple[Callable, dict, dict]:
    """A run -> images to class ids, what data.json says of the classes, and how to cut pieces."""
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
    model = build_model(config, output_stride=output_stride)
    load_weights(model, run)
    backbone = config.model.backbone
    predict = predictor(model, backbone=backbone, output_stride=output_stride, flip=FLIP.value)
    pieces = {"margin": margin_of(config, output_stride), "corners": HEADS[config.model.head]}
    return predict, data, pieces


def from_saved_model(folder: pathlib.Path) -> tuple[Callable, dict, dict]:
    """A SavedModel of export.py -> the same. Raises ValueError for another one."""
    if OUTPUT_STRIDE.value is not None or FLIP.value:
        raise ValueError("A SavedModel predicts as it was exported: no --output_stride, no --flip.")
    if not (folder / "saved_model.pb").exists():
        raise FileNotFoundError(f"{folder} is no SavedModel; export.py writes one.")
    loaded = tf.saved_model.load(str(folder))
    data = {}
    if hasattr(loaded, "data"):
        data = json.loads(pathlib.Path(loaded.data.asset_path.numpy().decode()).read_text())
    if not {"class_names", "palette", "margin"} <= data.keys():
        raise ValueError(
            f"{folder} does not say what its classes are and how far a pixel sees: export.py, as "
            "it is now, writes SavedModels that do."
        )
    # The first ones did not say their corners: then no other were known.
    return loaded, data, {"margin": data["margin"], "corners": data.get("corners", "aligned")}


def check_names(photos: list[pathlib.Path], output: pathlib.Path) -> None:
    """Raises ValueError where output is a file or holds photos, or two would become one mask."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output={output} is a file; name a folder.")
    if any(file.parent == output.absolute() for file in photos):
        raise ValueError(
            f"--output={output} holds photos, and what is written could take the place of files "
            "of yours: name another folder."
        )
    by_stem = {}
    for file in photos:
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
        predict, data, pieces = from_run(as_run(RUN.value))
    else:
        predict, data, pieces = from_saved_model(pathlib.Path(SAVED_MODEL.value))
    output.mkdir(parents=True, exist_ok=True)
    palette, failed = full_palette(data["palette"]), 0
    for file in track(photos, "photo", len(photos)):
        try:
            photo = read_photo(file)
        except ValueError as error:
            print(f"error: {error}; passed over.", file=sys.stderr, flush=True)
            failed += 1
            continue
        class_ids = in_pieces(predict, photo, **pieces)
        if class_ids.max() >= len(data["class_names"]):
            raise ValueError(
                f"Class {class_ids.max()} is predicted, and only {len(data['class_names'])} have "
                "names: these weights are of another set of classes."
            )
        write_bytes(output / f"{file.stem}_mask.png", mask_png(class_ids, palette))
        jpeg = io.BytesIO()
        draw_overlay(photo, class_ids, palette, data["class_names"]).save(jpeg, "JPEG", quality=90)
        write_bytes(output / f"{file.stem}_overlay.jpg", jpeg.getvalue())
    print(f"{len(photos) - failed} photos -> {output}; {failed} could not be read.")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_program(main, takes_arguments=True)
