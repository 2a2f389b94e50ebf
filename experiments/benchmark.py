"""Seconds and peak memory of a training step, in each of the ways to compute it.

    python -m experiments.benchmark --backbone=resnet50 --crop_size=321 --batch_size=4

Every contender is a process of its own, with as many threads as there are cores; they take turns,
and medians are compared, so that what else the machine does falls on all of them.
"""

import argparse
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from data.files import write_json
from experiments.base import get_config
from experiments.terminal import table
from experiments.train_step import make_state, make_train_step

ROUNDS = 5
STEPS = 2  # In each round.
CONTENDERS = {  # What each has in its config.
    "float32": {},
    "rematerialise": {"rematerialise": True},
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "jit_compile": {"jit_compile": True},
}


def contend(contender: str, arguments: argparse.Namespace) -> None:
    """Takes STEPS steps for each line of stdin, after those that compile; prints their seconds.

    After the last line it prints the peak of the process's memory in MB.
    """
    config = get_config()
    config.update(CONTENDERS[contender])
    config.model.backbone = arguments.backbone
    config.model.output_stride = arguments.output_stride
    train_step = make_train_step(
        make_state(config),
        tf.distribute.get_strategy(),
        rematerialise=config.rematerialise,
        jit_compile=config.jit_compile,
    )
    rng = np.random.default_rng(0)
    size = (arguments.batch_size, arguments.crop_size, arguments.crop_size)
    images = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    labels = tf.constant(rng.integers(0, config.model.num_classes, size, np.int32))
    for _ in range(2):
        float(train_step(images, labels)[0])
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(STEPS):
            float(train_step(images, labels)[0])
        print((time.perf_counter() - start) / STEPS, flush=True)
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, flush=True)


def measure(names: list[str], arguments: list[str]) -> dict[str, dict[str, float]]:
    """Contenders -> the median of their seconds per step, and their peak memory in MB."""
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
        name: {"seconds_per_step": statistics.median(seconds[name]), "peak_mb": memory[name]}
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--crop_size", type=int, default=321)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--output", type=pathlib.Path, help="a JSON to write")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        contend(arguments.contender, arguments)
        return
    sizes = ("backbone", "output_stride", "crop_size", "batch_size")
    measured = measure(list(CONTENDERS), [f"--{size}={getattr(arguments, size)}" for size in sizes])
    first = measured["float32"]
    rows = [["", "s / step", "ratio", "peak MB", "ratio"]]
    for name, values in measured.items():
        cells = []
        for field, digits in (("seconds_per_step", 2), ("peak_mb", 0)):
            cells += [f"{values[field]:.{digits}f}", f"{values[field] / first[field]:.2f}"]
        rows.append([name, *cells])
    print(table(rows))
    if arguments.output:
        what = {size: getattr(arguments, size) for size in sizes}
        write_json(arguments.output, {**what, "cores": os.cpu_count(), "measured": measured})


if __name__ == "__main__":
    main()
