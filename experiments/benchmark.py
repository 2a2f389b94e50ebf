"""Seconds and peak memory of a training step, or of inference, in each of the ways to compute it.

    python -m experiments.benchmark --backbone=resnet50 --crop_size=321 --batch_size=4
    python -m experiments.benchmark inference --backbone=resnet50 --output_stride=8

Every contender is a process of its own, with as many threads as there are cores; they take turns,
and medians are compared, so that what else the machine does falls on all of them. Multiply-adds are
those of an image of 513 pixels.
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import ml_collections
import numpy as np
import tensorflow as tf

from data.files import write_json
from experiments.base import get_config
from experiments.cost import inference_multiply_adds
from experiments.evaluation import predictor
from experiments.runs import build_model
from experiments.terminal import table
from experiments.train_step import make_state, make_train_step
from model.inference import SCALES

ROUNDS = 5
STEPS = 2  # In each round.
CONTENDERS = {  # What each has in its config.
    "training": {
        "float32": {},
        "rematerialise": {"rematerialise": True},
        "mixed_bfloat16": {"precision": "mixed_bfloat16"},
        "jit_compile": {"jit_compile": True},
    },
    "inference": {
        "one scale": {},
        "six scales": {"eval.scales": SCALES},
        "six scales, flip": {"eval.scales": SCALES, "eval.flip": True},
    },
}


def config_of(contender: str, arguments: argparse.Namespace) -> ml_collections.ConfigDict:
    """One of CONTENDERS, and what was asked for -> its config."""
    config = get_config()
    config.update_from_flattened_dict(CONTENDERS[arguments.what][contender])
    config.model.backbone = arguments.backbone
    config.model.output_stride = config.eval.output_stride = arguments.output_stride
    return config


def training(config: ml_collections.ConfigDict, images: np.ndarray) -> Callable[[], object]:
    """A config and [B, H, W, 3] images -> what takes a training step on them."""
    train_step = make_train_step(
        make_state(config),
        tf.distribute.get_strategy(),
        rematerialise=config.rematerialise,
        jit_compile=config.jit_compile,
    )
    labels = np.random.default_rng(1).integers(0, config.model.num_classes, images.shape[:3])
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)
    return lambda: float(train_step(images, labels)[0])


def inference(config: ml_collections.ConfigDict, images: np.ndarray) -> Callable[[], object]:
    """A config and [B, H, W, 3] images -> what predicts their class ids."""
    model = build_model(config, output_stride=config.eval.output_stride)
    predict = predictor(model, backbone=config.model.backbone, **config.eval)
    return lambda: predict(images).numpy()


def contend(contender: str, arguments: argparse.Namespace) -> None:
    """Computes STEPS times for each line of stdin, after those that compile; prints the seconds.

    After the last line it prints the peak of the process's memory in MB.
    """
    config = config_of(contender, arguments)
    size = (arguments.batch_size, arguments.crop_size, arguments.crop_size, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    compute = {"training": training, "inference": inference}[arguments.what](config, images)
    for _ in range(2):
        compute()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(STEPS):
            compute()
        print((time.perf_counter() - start) / STEPS, flush=True)
    print(peak_megabytes(), flush=True)


def peak_megabytes() -> float:
    """The peak of this process's memory, in MB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # What getrusage says there may be the peak of the process that started it.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # In bytes, on macOS.


def measure(names: list[str], arguments: list[str]) -> dict[str, dict[str, float]]:
    """Contenders -> the median of their seconds, and their peak memory in MB."""
    processes = {}
    for name in names:  # One after another, so that they do not compile at the same time.
        command = [sys.executable, "-m", "experiments.benchmark", "--contender", name, *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if process.stdout.readline() != "ready\n":
            sys.exit(f"error: {name} could not be started; see above.")
        processes[name] = process
        print(f"{name} is ready", flush=True)
    seconds = {name: [] for name in names}
    for done in range(1, ROUNDS + 1):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline()))
        print(f"round {done} of {ROUNDS}", flush=True)
    memory = {name: float(process.communicate()[0]) for name, process in processes.items()}
    return {
        name: {"seconds": statistics.median(seconds[name]), "peak_mb": memory[name]}
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=CONTENDERS, default="training")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--crop_size", type=int, default=321)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--output", type=pathlib.Path, help="a JSON to write")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        contend(arguments.contender, arguments)
        return
    sizes = ("backbone", "output_stride", "crop_size", "batch_size")
    names = list(CONTENDERS[arguments.what])
    command = [arguments.what, *(f"--{size}={getattr(arguments, size)}" for size in sizes)]
    measured = measure(names, command)
    columns = {"seconds": 2, "peak_mb": 0}  # And the digits that are shown.
    if arguments.what == "inference":
        columns["multiply_adds"] = 0
        for name, values in measured.items():
            values["multiply_adds"] = inference_multiply_adds(config_of(name, arguments))
    first = measured[names[0]]
    rows = [["", *(cell for column in columns for cell in (column, "ratio"))]]
    for name, values in measured.items():
        cells = []
        for column, digits in columns.items():
            cells += [f"{values[column]:.{digits}f}", f"{values[column] / first[column]:.2f}"]
        rows.append([name, *cells])
    print(table(rows))
    if arguments.output:
        what = {size: getattr(arguments, size) for size in ("what", *sizes)}
        write_json(arguments.output, {**what, "cores": os.cpu_count(), "measured": measured})


if __name__ == "__main__":
    main()
