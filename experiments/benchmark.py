"""Seconds and peak memory of a training step, or of inference, beside those of others.

    python -m experiments.benchmark --backbone=resnet50 --output_stride=8 --crop_size=321
    python -m experiments.benchmark inference --backbone=resnet50 --output_stride=8 --crop_size=513
    python -m experiments.benchmark inference --contenders="checkpoint;six scales"

Every contender is a process of its own, with as many threads as there are cores; they take turns,
and medians are compared, so that what else the machine does falls on all of them. The first one is
what the others are compared with. Networks, images and labels have the same sizes: torchvision's
network has one 3x3 conv more, whose share of the work is small (pip install torch torchvision; left
out where they are not).

The ceiling is a 3x3 convolution of 512 to 512 channels on 65 x 65 features, measured in turn with
the others. A contender's share of it is of the multiply-adds that it needs: taps of atrous
convolutions that fall on padding do not count, and a training step needs three times what inference
does.
"""

import argparse
import importlib.util
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
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
from experiments.cost import useful_multiply_adds
from experiments.evaluation import predictor
from experiments.peers import by_torchvision, use_kerass_own_layers
from experiments.runs import build_model, code_version
from experiments.serving import Segmenter, frozen, write_saved_model
from experiments.terminal import table
from experiments.train_step import make_state, make_train_step
from model.inference import SCALES
from model.resnet import BACKBONES

ROUNDS = 5
STEPS = 2  # In each round.
KERAS, TORCHVISION, COMPILED = "keras", "torchvision", "torchvision compiled"  # Whose layers.
CONTENDERS = {  # Whose, and what each has in its config.
    "training": {
        "float32": ("", {}),
        "mixed_bfloat16": ("", {"precision": "mixed_bfloat16"}),
        "rematerialise": ("", {"rematerialise": True}),
        "jit_compile": ("", {"jit_compile": True}),
        "Keras's own layers": (KERAS, {}),
        "torchvision": (TORCHVISION, {}),
        "torchvision, bfloat16": (TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": (COMPILED, {}),
    },
    "inference": {
        "SavedModel": ("", {}),
        "SavedModel, bfloat16": ("", {"precision": "mixed_bfloat16"}),
        "checkpoint": ("checkpoint", {}),
        "six scales": ("checkpoint", {"eval.scales": SCALES}),
        "six scales and flip": ("checkpoint", {"eval.scales": SCALES, "eval.flip": True}),
        "Keras's own layers": (KERAS, {}),
        "torchvision": (TORCHVISION, {}),
        "torchvision, bfloat16": (TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": (COMPILED, {}),
    },
}
CEILING = "ceiling"
CEILING_SIZE, CEILING_CHANNELS, CEILING_TIMES = 65, 512, 3


def config_of(contender: str, arguments: argparse.Namespace) -> ml_collections.ConfigDict:
    """One of CONTENDERS, and what was asked for -> its config."""
    config = get_config()
    config.update_from_flattened_dict(CONTENDERS[arguments.what][contender][1])
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
    """A config and [B, H, W, 3] images -> what predicts their class ids, as eval.py does."""
    model = build_model(config, output_stride=config.eval.output_stride)
    predict = predictor(model, backbone=config.model.backbone, **config.eval)
    return lambda: predict(images).numpy()


def exported(config: ml_collections.ConfigDict, images: np.ndarray) -> Callable[[], object]:
    """A config and [B, H, W, 3] images -> what predicts their class ids, as a SavedModel does."""
    model = build_model(config, output_stride=config.eval.output_stride, precision=config.precision)
    mean_pixel = BACKBONES[config.model.backbone].mean_pixel
    probabilities = frozen(model, mean_pixel=mean_pixel, **config.eval)
    with tempfile.TemporaryDirectory() as folder:
        data_file = pathlib.Path(folder) / "data.json"
        data_file.write_text("{}")
        write_saved_model(Segmenter(probabilities, data_file), pathlib.Path(folder) / "new")
        loaded = tf.saved_model.load(f"{folder}/new")
    images = tf.constant(images)
    return lambda: loaded(images).numpy()


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


def what_computes(contender: str, arguments: argparse.Namespace) -> Callable[[], object]:
    """A contender's name -> what computes once."""
    if contender == CEILING:
        return ceiling()
    whose, config = CONTENDERS[arguments.what][contender][0], config_of(contender, arguments)
    size = (arguments.batch_size, arguments.crop_size, arguments.crop_size, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    is_training = arguments.what == "training"
    if whose in (TORCHVISION, COMPILED):
        return by_torchvision(config, images, training=is_training, compiled=whose == COMPILED)
    if whose == KERAS:
        use_kerass_own_layers()
    if is_training:
        return training(config, images)
    return exported(config, images) if whose == "" else inference(config, images)


def contend(contender: str, arguments: argparse.Namespace) -> None:
    """Computes STEPS times for each line of stdin, after those that compile; prints the seconds.

    After the last line it prints the peak of the process's memory in MB.
    """
    compute = what_computes(contender, arguments)
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


def gigaflops(name: str, seconds: float, arguments: argparse.Namespace) -> float:
    """A contender and its seconds -> the useful operations of a second, in billions."""
    if name == CEILING:
        work = 9 * CEILING_SIZE**2 * CEILING_CHANNELS**2 * CEILING_TIMES
    else:
        config = config_of(name, arguments)
        work = arguments.batch_size * useful_multiply_adds(config, arguments.crop_size)
        work *= 3 if arguments.what == "training" else 1
    return 2 * work / seconds / 1e9


def results(
    measured: dict[str, dict[str, float]], arguments: argparse.Namespace
) -> list[list[str]]:
    """What was measured -> a table: beside the first contender's, and as a share of the ceiling."""
    for name, values in measured.items():
        values["gigaflops"] = gigaflops(name, values["seconds"], arguments)
    highest = measured[CEILING]["gigaflops"]
    first = next(iter(measured.values()))
    rows = [["", "seconds", "times as long", "peak MB", "times as much", "of the ceiling"]]
    for name, values in measured.items():
        cells = [f"{values['seconds']:.3f}", f"{values['seconds'] / first['seconds']:.2f}"]
        cells += [f"{values['peak_mb']:.0f}", f"{values['peak_mb'] / first['peak_mb']:.2f}"]
        rows.append([name, *cells, f"{values['gigaflops'] / highest:.2f}"])
    return rows


def chosen(arguments: argparse.Namespace) -> list[str]:
    """The contenders that are asked for, or all that can be. Raises ValueError for unknown ones."""
    there = CONTENDERS[arguments.what]
    if arguments.contenders:
        names = arguments.contenders.split(";")
        if unknown := [name for name in names if name not in there]:
            raise ValueError(f"No contender {unknown[0]!r}; there are {'; '.join(there)}.")
        return names
    if importlib.util.find_spec("torchvision"):
        return list(there)
    print("torchvision is not installed and left out: pip install torch torchvision")
    return [name for name, (whose, _) in there.items() if whose not in (TORCHVISION, COMPILED)]


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
    parser.add_argument("--batch_size", type=int, help="4 in training, 1 in inference if not given")
    parser.add_argument("--contenders", help="some of them, with ; between; the first is compared")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON to write")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch_size is None:
        arguments.batch_size = 4 if arguments.what == "training" else 1
    if arguments.contender:
        contend(arguments.contender, arguments)
        return
    try:
        names = chosen(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    sizes = ("backbone", "output_stride", "crop_size", "batch_size")
    command = [arguments.what, *(f"--{size}={getattr(arguments, size)}" for size in sizes)]
    measured = measure([*names, CEILING], command)
    print(table(results(measured, arguments)))
    if arguments.output:
        what = {size: getattr(arguments, size) for size in ("what", *sizes)}
        about = {"cores": os.cpu_count(), "commit": code_version(), "rounds": ROUNDS}
        write_json(arguments.output, {**what, **about, "measured": measured})


if __name__ == "__main__":
    main()
