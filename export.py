r"""Writes a run in formats for use elsewhere, once each is seen to do what the run does.

    python export.py --run=runs/shapes/base
    python export.py --run=runs/base --output_stride=8 --scales=0.75,1,1.25 --flip
    python export.py --run=runs/base --format=saved_model_bfloat16,litert_int8,onnx
    python export.py --run=runs/base --format=litert_float16 --size=513,513

Formats: saved_model, saved_model_bfloat16, litert_float32, litert_float16, litert_int8, onnx; each
becomes RUN/FORMAT, with data.json, model_card.md and gate.json. uint8 images go in, class ids come
out; it needs its own runtime alone, none of this project:

    segment = tf.saved_model.load("runs/shapes/base/saved_model")
    class_ids = segment(images)  # [B, H, W, 3] uint8 RGB -> [B, H, W] uint8

The gate runs each, in a process of its own, on images of the run's evaluation and compares with the
checkpoint. Where more differs than the format may, or it does not run, nothing of it is left, and
the exit code is 1.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib
import signal
import sys
from typing import Any

import ml_collections
from absl import flags

from data.terminal import table
from deployment import formats
from deployment.exporter import HEADER, Exporter, check_replaceable
from deployment.formats import check_formats
from evaluation.protocol import as_scales, inference_of
from experiments.command_line import run_program
from pretrained.import_run import as_run
from training.run_folder import read_config, read_data

RUN = flags.DEFINE_string(
    "run", None, "The run's folder; or others' model, see README.", required=True
)
FORMAT = flags.DEFINE_list("format", "saved_model", f"Of {', '.join(formats.FORMATS)}.")
OUTPUT = flags.DEFINE_string("output", None, "The folder of one format; RUN/FORMAT if not given.")
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own for eval if not given.")
SCALES = flags.DEFINE_list("scales", None, "Of the image, 0.5,1,1.5 say; the run's if not given.")
FLIP = flags.DEFINE_bool("flip", None, "Whether mirrored too; as the run if not given.")
SIZE = flags.DEFINE_list("size", None, "H,W of all images, in LiteRT and ONNX: faster. Or any.")
GATE_IMAGES = flags.DEFINE_integer("gate_images", 16, "0: no gate, for who lacks the data set.", 0)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")


def asked_size() -> tuple[int, int] | None:
    """--size as (H, W), None where it is not given. Raises ValueError where it is no size."""
    if SIZE.value is None:
        return None
    if len(SIZE.value) != 2 or not all(side.isdecimal() and int(side) for side in SIZE.value):
        raise ValueError(f"--size={','.join(SIZE.value)} is no H,W in pixels, as in 513,513.")
    return int(SIZE.value[0]), int(SIZE.value[1])


def asked_inference(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The run's own inference, but for what the flags say. Raises ValueError for no scales."""
    own = inference_of(config)
    asked = {
        "output_stride": OUTPUT_STRIDE.value,
        "scales": None if SCALES.value is None else as_scales(SCALES.value),
        "flip": FLIP.value,
    }
    return {name: own[name] if value is None else value for name, value in asked.items()}


def main(_) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that what is half written goes.
    run = as_run(RUN.value)
    inference, size = asked_inference(read_config(run)), asked_size()
    read_data(run)
    names = list(dict.fromkeys(FORMAT.value))  # Each once.
    if not names or (OUTPUT.value and len(names) > 1):
        raise ValueError("Name a --format; with --output one alone.")
    check_formats(names, fixed_size=size is not None)
    folders = {name: pathlib.Path(OUTPUT.value or run / name) for name in names}
    for name, folder in folders.items():
        check_replaceable(folder, formats.FORMATS[name])
    exporter = Exporter(
        run,
        inference=inference,
        size=size,
        gate_images=GATE_IMAGES.value,
        data_dir=DATA_DIR.value,
    )
    rows, failed = [], []
    for name, folder in folders.items():
        try:
            rows.append(exporter.write(name, folder))
            print(f"{run}, step {exporter.step} -> {folder}", flush=True)
        except ValueError as error:
            failed.append(str(error))
    if rows:
        print(table([HEADER, *rows]))
    if failed:
        raise ValueError("\n".join(failed))


if __name__ == "__main__":
    run_program(main)
