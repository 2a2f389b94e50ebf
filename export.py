r"""Exports a run to other formats, and checks that each reproduces the run's predictions.

    python export.py --run=runs/shapes/base
    python export.py --run=runs/shapes/base --checkpoint=best
    python export.py --run=runs/base --output_stride=8 --scales=0.75,1,1.25 --flip
    python export.py --run=runs/base --format=saved_model_bfloat16,litert_int8,onnx
    python export.py --run=runs/base --format=litert_float16 --size=513,513

Formats: saved_model, saved_model_bfloat16, litert_float32, litert_float16, litert_int8, onnx. Each
is written to RUN/FORMAT, or RUN/FORMAT_best with --checkpoint=best, with data.json, model_card.md
and gate.json. It takes uint8 images, returns class ids, and needs its own runtime only, nothing of
this project:

    segment = tf.saved_model.load("runs/shapes/base/saved_model")
    class_ids = segment(images)  # [B, H, W, 3] uint8 RGB -> [B, H, W] uint8

The parity gate runs each format in a process of its own on images of the run's evaluation, and
compares with the checkpoint. Where more differs than the format's tolerance, or it does not run,
nothing of it is written, and the exit code is 1.
"""

import pathlib
import signal
import sys

from absl import flags

from data.terminal import table
from deployment.formats import FORMATS, check_formats
from experiments import base
from experiments.command_line import (
    define_checkpoint,
    define_data_dir,
    define_inference_flags,
    define_run,
    inference_from_flags,
    parse_flags,
    run_program,
)

RUN, CHECKPOINT, INFERENCE = define_run(), define_checkpoint(), define_inference_flags()
DATA_DIR = define_data_dir()
FORMAT = flags.DEFINE_list("format", "saved_model", f"One or more of {', '.join(FORMATS)}.")
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of a single format. Default: RUN/FORMAT, or RUN/FORMAT_best."
)
SIZE = flags.DEFINE_list(
    "size", None, "Fixed input size H,W (LiteRT and ONNX only; faster). Default: any size."
)
GATE_IMAGES = flags.DEFINE_integer(
    "gate_images", 16, "Images in the parity check; 0 skips it (e.g. without the data set).", 0
)
if __name__ == "__main__":
    ARGUMENTS = parse_flags()  # Before TensorFlow is imported.

from deployment.exporter import HEADER, Exporter, check_replaceable
from evaluation.protocol import checkpoint_suffix
from pretrained.import_run import import_run
from training.run_folder import read_config, read_data


def size_from_flag() -> tuple[int, int] | None:
    """--size as (H, W), None where it is not given. Raises ValueError where it is not a size."""
    if SIZE.value is None:
        return None
    if len(SIZE.value) != 2 or not all(side.isdecimal() and int(side) for side in SIZE.value):
        raise ValueError(
            f"--size must be H,W in pixels, such as 513,513; got {','.join(SIZE.value)}."
        )
    return int(SIZE.value[0]), int(SIZE.value[1])


def main(_) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Temporary files are deleted then.
    run = import_run(RUN.value, base.as_data(base.get_config()))
    inference = inference_from_flags(INFERENCE, dict(read_config(run).eval))
    size = size_from_flag()
    read_data(run)
    names = list(dict.fromkeys(FORMAT.value))  # Each once.
    if not names or (OUTPUT.value and len(names) > 1):
        raise ValueError("Name a --format; --output takes a single one.")
    check_formats(names, fixed_size=size is not None)
    suffix = checkpoint_suffix(CHECKPOINT.value)
    folders = {name: pathlib.Path(OUTPUT.value or run / f"{name}{suffix}") for name in names}
    for name, folder in folders.items():
        check_replaceable(folder, FORMATS[name])
    exporter = Exporter(
        run,
        checkpoint=CHECKPOINT.value,
        inference=inference,
        size=size,
        gate_images=GATE_IMAGES.value,
        data_dir=DATA_DIR.value,
    )
    print(f"{run}: checkpoint {CHECKPOINT.value}, step {exporter.step}", flush=True)
    rows, failed = [], []
    for name, folder in folders.items():
        try:
            rows.append(exporter.write(name, folder))
            print(f"{name} -> {folder}", flush=True)
        except ValueError as error:
            failed.append(str(error))
    if rows:
        print(table([HEADER, *rows]))
    if failed:
        raise ValueError("\n".join(failed))


if __name__ == "__main__":
    run_program(main, ARGUMENTS)
