"""Seconds and peak memory of a training step, or of inference, beside those of others.

    python -m benchmark.speed all         # README's tables: half an hour, 24 GB
    python -m benchmark.speed training --backbone=resnet50 --output_stride=8 --crop_size=321
    python -m benchmark.speed inference --contenders="checkpoint;six scales"

Every contender is a process of its own, with as many threads as there are cores; they take turns,
and medians are compared, so that what else the machine does falls on all of them. The first one is
what the others are compared with. Images, labels, depth, output stride and ASPP's rates are the
same, but torchvision's network has one 3x3 conv more, no multi-grid, and strides in the first unit
of a block: 3 to 8 % more multiply-adds, which its share of the ceiling does not count (pip install
torch torchvision; left out where they are not).

The ceiling is a 3x3 convolution of 512 to 512 channels on 65 x 65 features, measured in turn with
the others. A contender's share of it is of the multiply-adds that it needs: taps of atrous
convolutions that fall on padding do not count, and a training step needs three times what inference
does. Networks are not trained, but their batch norms have statistics as if they were: biases of 0
would be left out of an export.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import importlib.util
import itertools
import multiprocessing
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from benchmark.baselines import by_torchvision, use_kerass_own_layers
from benchmark.cases import (
    CASES,
    CEILING,
    COMPILED,
    CONTENDERS,
    KERAS,
    TORCHVISION,
    Case,
    goal_rows,
    rows,
)
from data.files import write_json
from data.terminal import table, track
from deployment.inference_graph import frozen
from deployment.saved_model import Segmenter, write_saved_model
from evaluation.prediction import predictor
from evaluation.protocol import code_version
from experiments.base import get_config
from experiments.cost import useful_multiply_adds
from model.deeplabv3 import build_model
from model.resnet import BACKBONES
from training.train_step import make_state, make_train_step

RESULT = pathlib.Path(__file__).parent / "results.json"
ROUNDS = 5
STEPS = 2  # In each round.
CEILING_SIZE, CEILING_CHANNELS, CEILING_TIMES = 65, 512, 3


def config_of(contender: str, case: Case) -> ml_collections.ConfigDict:
    """One of CONTENDERS, and a case -> its config."""
    config = get_config()
    config.update_from_flattened_dict(CONTENDERS[case.what][contender][1])
    config.model.backbone = case.backbone
    config.model.output_stride = config.eval.output_stride = case.output_stride
    return config


def training(config: ml_collections.ConfigDict, images: np.ndarray) -> Callable[[], object]:
    """A config and [B, H, W, 3] images -> what takes a training step on them."""
    train_step = make_train_step(
        make_state(config),
        tf.distribute.get_strategy(),
        rematerialize=config.rematerialize,
        jit_compile=config.jit_compile,
    )
    labels = np.random.default_rng(1).integers(0, config.model.num_classes, images.shape[:3])
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)
    return lambda: float(train_step(images, labels)[0])


def network(config: ml_collections.ConfigDict) -> keras.Model:
    """A config -> its model, as evaluated, with batch norms as if it were trained."""
    model = build_model(config, output_stride=config.eval.output_stride, precision=config.precision)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
    return model


def inference(config: ml_collections.ConfigDict, images: np.ndarray) -> Callable[[], object]:
    """A config and [B, H, W, 3] images -> what predicts their class ids, as eval.py does."""
    predict = predictor(network(config), backbone=config.model.backbone, **config.eval)
    return lambda: predict(images).numpy()


def exported(contender: str, case: Case, images: np.ndarray) -> Callable[[], object]:
    """A contender, and [B, H, W, 3] images -> what predicts their class ids, as a SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, whose memory does not count.
        process = multiprocessing.get_context("spawn").Process(
            target=write_export, args=(contender, case, folder)
        )
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"error: {contender} could not be exported; see above.")
        loaded = tf.saved_model.load(f"{folder}/new")
    images = tf.constant(images)
    return lambda: loaded(images).numpy()


def write_export(contender: str, case: Case, folder: str) -> None:
    """Writes a contender as a SavedModel, FOLDER/new."""
    config = config_of(contender, case)
    mean_pixel = BACKBONES[case.backbone].mean_pixel
    probabilities = frozen(network(config), mean_pixel=mean_pixel, **config.eval)
    data_file = pathlib.Path(folder) / "data.json"
    data_file.write_text("{}")
    write_saved_model(Segmenter(probabilities, data_file), pathlib.Path(folder) / "new")


def ceiling() -> Callable[[], object]:
    """What convolves without a rate, as often as makes a tenth of a second or so."""
    rng, channels = np.random.default_rng(0), CEILING_CHANNELS
    x = tf.constant(rng.normal(size=(1, CEILING_SIZE, CEILING_SIZE, channels)), tf.float32)
    kernel = tf.constant(rng.normal(0, 0.01, (3, 3, channels, channels)), tf.float32)

    @tf.function
    def convolve():
        y = x
        for _ in range(CEILING_TIMES):
            y = tf.nn.conv2d(y, kernel, 1, "SAME")
        return tf.reduce_sum(y)

    return lambda: float(convolve())


def what_computes(contender: str, case: Case) -> Callable[[], object]:
    """A contender's name -> what computes once."""
    if contender == CEILING:
        return ceiling()
    whose, config = CONTENDERS[case.what][contender][0], config_of(contender, case)
    size = (case.batch_size, case.crop_size, case.crop_size, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    is_training = case.what == "training"
    if whose in (TORCHVISION, COMPILED):
        return by_torchvision(config, images, training=is_training, compiled=whose == COMPILED)
    if whose == KERAS:
        use_kerass_own_layers()
    if is_training:
        return training(config, images)
    return exported(contender, case, images) if whose == "" else inference(config, images)


def contend(contender: str, case: Case) -> None:
    """Computes STEPS times for each line of stdin, after those that compile; prints the seconds.

    After the last line it prints the peak of the process's memory in MB.
    """
    compute = what_computes(contender, case)
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


def measure(names: list[str], case: Case) -> dict[str, dict[str, float]]:
    """Contenders -> medians of their seconds, their peak memory in MB, and useful GFLOP/s."""
    processes, seconds = {}, {name: [] for name in names}
    sizes = [f"--{field}={value}" for field, value in case._asdict().items() if field != "what"]
    command = [sys.executable, "-m", "benchmark.speed", case.what, *sizes]
    try:
        for name in track(names, "ready", len(names)):  # One compiles after another.
            processes[name] = process = subprocess.Popen(
                [*command, "--contender", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            said_by(process, name)
        turns = itertools.product(range(ROUNDS), names)
        for _, name in track(turns, "turn", ROUNDS * len(names)):
            print("go", file=processes[name].stdin, flush=True)
            seconds[name].append(float(said_by(processes[name], name)))
        for process in processes.values():
            process.stdin.close()
        memory = {name: float(said_by(process, name)) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    measured = {}
    for name in names:
        median = statistics.median(seconds[name])
        rate = operations(name, case) / median / 1e9
        measured[name] = {"seconds": median, "peak_mb": memory[name], "gigaflops": rate}
    return measured


def said_by(process: subprocess.Popen, name: str) -> str:
    """The next line of a contender's process. Exits with an error where it has ended."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"error: {name} ended; see above, or it was killed for want of memory.")
    return line.strip()


def operations(contender: str, case: Case) -> int:
    """A contender -> the useful operations of one computation, two for a multiply-add."""
    if contender == CEILING:
        return 2 * 9 * CEILING_SIZE**2 * CEILING_CHANNELS**2 * CEILING_TIMES
    work = useful_multiply_adds(config_of(contender, case), case.crop_size)
    return 2 * case.batch_size * work * (3 if case.what == "training" else 1)


def chosen(case: Case, asked: str | None) -> list[str]:
    """The contenders that are asked for, or all that can be. Raises ValueError for others."""
    there = CONTENDERS[case.what]
    if asked:
        names = asked.split(";")
        if unknown := [name for name in names if name not in there]:
            raise ValueError(f"No contender {unknown[0]!r}; there are {'; '.join(there)}.")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is named twice.")
        return names
    names = list(there)[: CASES.get(case)]
    if importlib.util.find_spec("torchvision"):
        return names
    print("torchvision is not installed and left out: pip install torch torchvision")
    return [name for name in names if there[name][0] not in (TORCHVISION, COMPILED)]


def processor() -> str:
    """The name of this machine's processor, where it is said."""
    file = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", file.read_text()) if file.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def run(cases: list[Case], asked: str | None, output: pathlib.Path | None) -> None:
    """Measures cases one after another, prints a table of each, and writes all of them as JSON."""
    start, done = time.monotonic(), []
    for number, case in enumerate(cases, start=1):
        print(f"\n{case} ({number} of {len(cases)})", flush=True)
        measured = measure([*chosen(case, asked), CEILING], case)
        print(table(rows(case, measured)), flush=True)
        work = useful_multiply_adds(config_of(next(iter(measured)), case), case.crop_size)
        done.append({"case": case._asdict(), "gigamacs": work / 1e9, "measured": measured})
    if output:
        about = {"cores": os.cpu_count(), "cpu": processor(), "commit": code_version()}
        about |= {"rounds": ROUNDS, "minutes": (time.monotonic() - start) / 60}
        write_json(output, {**about, "cases": done})
    if len(cases) > 1:
        print(f"\n{table(goal_rows({Case(**each['case']): each['measured'] for each in done}))}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=(*CONTENDERS, "all"), default="training")
    parser.add_argument("--backbone", default="resnet50", choices=BACKBONES)
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--crop_size", type=int, default=321)
    parser.add_argument("--batch_size", type=int, help="4 in training, 1 in inference if not given")
    parser.add_argument("--contenders", help="some of them, with ; between; the first is compared")
    parser.add_argument("--output", type=pathlib.Path, help=f"a JSON; for `all` {RESULT.name}")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [getattr(arguments, field) for field in Case._fields[:-1]]
    batch_size = arguments.batch_size or (4 if arguments.what == "training" else 1)
    case = Case(*sizes, batch_size)
    if arguments.contender:
        contend(arguments.contender, case)
        return
    is_all = arguments.what == "all"
    if is_all and arguments.contenders:
        parser.error("--contenders are of one case, not of all.")
    try:
        run(
            list(CASES) if is_all else [case],
            arguments.contenders,
            arguments.output or (RESULT if is_all else None),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
