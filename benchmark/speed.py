"""Time and peak memory of a training step or of inference, beside torchvision and plain Keras.

    python -m benchmark.speed all           # results.json, docs/speed.md: 45 minutes, 24 GB
    python -m benchmark.speed mobilenet_v2  # its section of both: ten minutes, 8 GB; or resnet
    python -m benchmark.speed report        # docs/speed.md alone, from results.json
    python -m benchmark.speed training --backbone=resnet50 --output_stride=8 --crop_size=321
    python -m benchmark.speed inference --candidates="checkpoint;six scales"

Every candidate is a process of its own that uses all cores. The candidates take turns and medians
are compared, so that slow changes of the machine affect all of them alike. Other load does not: on
a busy machine PyTorch's threads wait for each other, tens of times as long in a small network.
Ratios are relative to the first candidate. Images, labels, depth, output stride and ASPP's rates
are the same for all. Networks of PyTorch (pip install torch torchvision; skipped if missing) are
torchvision's of the same depth, and our MobileNetV2 in PyTorch's layers, the same function.
torchvision's has one more 3x3 conv, no multi-grid, and its strides in the first unit of a block: 3
to 8 % more multiply-adds, which its share of peak FLOP/s does not count.

Peak FLOP/s are those of a float32 3x3 convolution from 512 to 512 channels on 65 x 65 features,
measured in the same turns. A candidate's share of it counts useful multiply-adds only: taps of
atrous convolutions that fall on padding are left out, and a training step counts as three forward
passes. Networks are not trained, but their batch norms have non-zero statistics: an export would
drop biases of 0.
"""

import argparse
import importlib.util
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.cases import (
    CANDIDATES,
    MOBILENET_CANDIDATES,
    OF_PYTORCH,
    OURS,
    PEAK_FLOPS,
    PYTORCH,
    PYTORCH_COMPILED,
    SECTIONS,
    STOCK_KERAS,
    TORCHVISION_COMPILED,
    Case,
    case_rows,
    target_rows,
    to_markdown,
)
from data.terminal import errors_in_a_line, make_parser, parse_early, table, track


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("benchmark.speed", __doc__)
    tasks = (*CANDIDATES, *SECTIONS, "all", "report")
    parser.add_argument("task", nargs="?", choices=tasks, default="training")
    parser.add_argument("--backbone", default="resnet50", help="a key of model.backbones.BACKBONES")
    parser.add_argument("--output_stride", type=int, default=16)
    parser.add_argument("--crop_size", type=int, default=321)
    parser.add_argument("--batch_size", type=int, help="default: 4 in training, 1 in inference")
    parser.add_argument("--candidates", help="separated by `;`; the first is the reference")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        help="JSON file to write; default: none; of all and sections, results.json, speed.md",
    )
    parser.add_argument("--candidate", help=argparse.SUPPRESS)  # Of start_process.
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from benchmark.baselines import (
    make_pytorch_step,
    pytorch_network,
    use_stock_keras_layers,
)
from data.files import between_markers, write_json, write_text
from deployment.inference_graph import InferenceNetwork
from deployment.saved_model import Segmenter, write_saved_model
from evaluation.prediction import make_predictor as make_compiled_predictor
from evaluation.protocol import code_version
from experiments.base import get_config
from experiments.cost import useful_multiply_adds
from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from model.mobilenet import MOBILENETS
from training.optimizer import make_optimizer
from training.train_step import make_state, make_train_step

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmark" / "results.json"
PAGE = ROOT / "docs" / "speed.md"
MARKERS = ("<!-- speed: made by python -m benchmark.speed -->", "<!-- end of speed -->")
LEARNING_RATE, STEPS = 0.007, 30_000  # Of the optimizer; they do not change the time.
ROUNDS = 5
STEPS_PER_ROUND, SECONDS_PER_ROUND = 2, 1  # Both at least: a step may take 20 ms.
PEAK_SIZE, PEAK_CHANNELS, PEAK_CONVOLUTIONS = 65, 512, 3


def candidate_config(candidate: str, case: Case) -> ml_collections.ConfigDict:
    """One of CANDIDATES, and a case -> its config."""
    config = get_config()
    config.update_from_flattened_dict(dict(CANDIDATES[case.task][candidate].overrides))
    config.model.backbone = case.backbone
    if case.backbone in MOBILENETS:  # The authors' ASPP for it.
        config.model.multi_grid, config.model.atrous_rates = (1, 1, 1), ()
    config.model.output_stride = config.eval.output_stride = case.output_stride
    return config


def make_training_step(
    arguments: Mapping[str, Any], images: np.ndarray, *, precision: str, **options: bool
) -> Callable[[], object]:
    """deeplabv3's arguments and [B, H, W, 3] images -> a function that trains one step on them.

    options: those of make_train_step.
    """
    model = deeplabv3(**arguments, precision=precision)
    optimizer = make_optimizer(LEARNING_RATE, steps=STEPS, precision=precision)
    train_step = make_train_step(
        make_state(model, optimizer), tf.distribute.get_strategy(), **options
    )
    labels = np.random.default_rng(1).integers(0, arguments["num_classes"], images.shape[:3])
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)
    return lambda: float(train_step(images, labels)[0])


def make_model(arguments: Mapping[str, Any], *, precision: str) -> keras.Model:
    """deeplabv3's arguments -> the model, with non-zero batch norm statistics."""
    model = deeplabv3(**arguments, precision=precision)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
    return model


def make_predictor(
    model: keras.Model, images: np.ndarray, *, scales: Sequence[float], flip: bool
) -> Callable[[], object]:
    """A model and [B, H, W, 3] images -> a function that predicts their class ids as eval.py."""
    predict = make_compiled_predictor(model, scales=scales, flip=flip)
    return lambda: predict(images).numpy()


def make_exported_predictor(candidate: str, case: Case, images: np.ndarray) -> Callable[[], object]:
    """A candidate, and [B, H, W, 3] images -> the same by its SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        # Export in a process of its own, so that its memory does not count.
        process = multiprocessing.get_context("spawn").Process(
            target=write_export, args=(candidate, case, folder)
        )
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"error: {candidate} could not be exported; see above.")
        loaded = tf.saved_model.load(f"{folder}/new")
    images = tf.constant(images)
    return lambda: loaded(images).numpy()


def write_export(candidate: str, case: Case, folder: str) -> None:
    """Writes a candidate as a SavedModel, FOLDER/new."""
    config = candidate_config(candidate, case)
    mean_pixel = BACKBONES[case.backbone].mean_pixel
    model = make_model(config.model, precision=config.precision)
    network = InferenceNetwork(model, mean_pixel=mean_pixel, **config.eval)
    data_file = pathlib.Path(folder) / "data.json"
    data_file.write_text("{}")
    write_saved_model(Segmenter(network, data_file), pathlib.Path(folder) / "new")


def make_peak_convolution() -> Callable[[], object]:
    """A function that runs dense 3x3 convolutions for about a tenth of a second."""
    rng, channels = np.random.default_rng(0), PEAK_CHANNELS
    x = tf.constant(rng.normal(size=(1, PEAK_SIZE, PEAK_SIZE, channels)), tf.float32)
    kernel = tf.constant(rng.normal(0, 0.01, (3, 3, channels, channels)), tf.float32)

    @tf.function
    def convolve():
        y = x
        for _ in range(PEAK_CONVOLUTIONS):
            y = tf.nn.conv2d(y, kernel, 1, "SAME")
        return tf.reduce_sum(y)

    return lambda: float(convolve())


def make_computation(candidate: str, case: Case) -> Callable[[], object]:
    """A candidate's name, and a case -> a function that takes its step or predicts, once."""
    if candidate == PEAK_FLOPS:
        return make_peak_convolution()
    implementation = CANDIDATES[case.task][candidate].implementation
    config = candidate_config(candidate, case)
    size = (case.batch_size, case.crop_size, case.crop_size, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    training = case.task == "training"
    if implementation in OF_PYTORCH:
        network = pytorch_network(
            config.model.backbone,
            output_stride=config.model.output_stride,
            atrous_rates=config.model.atrous_rates,
            num_classes=config.model.num_classes,
        )
        return make_pytorch_step(
            network,
            images,
            config.model.num_classes,
            precision=config.precision,
            training=training,
            compiled=implementation in (TORCHVISION_COMPILED, PYTORCH_COMPILED),
            channels_last=implementation in (PYTORCH, PYTORCH_COMPILED),
        )
    if implementation == STOCK_KERAS:
        use_stock_keras_layers()
    if training:
        return make_training_step(
            config.model,
            images,
            precision=config.precision,
            rematerialize=config.rematerialize,
            jit_compile=config.jit_compile,
        )
    if implementation == OURS:
        return make_exported_predictor(candidate, case, images)
    model = make_model(config.model, precision=config.precision)
    return make_predictor(model, images, scales=config.eval.scales, flip=config.eval.flip)


def serve(candidate: str, case: Case) -> None:
    """Runs one round of a candidate's steps for each line of stdin, and prints seconds per step.

    It prints a line when it has warmed up, and the process's peak memory in MB at the end of stdin.
    """
    compute = make_computation(candidate, case)
    for _ in range(2):  # They compile.
        compute()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, steps, seconds = time.perf_counter(), 0, 0.0
        while steps < STEPS_PER_ROUND or seconds < SECONDS_PER_ROUND:
            compute()
            steps, seconds = steps + 1, time.perf_counter() - start
        print(seconds / steps, flush=True)
    print(peak_megabytes(), flush=True)


def peak_megabytes() -> float:
    """The peak of this process's memory, in MB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # On Linux getrusage may return the peak of the parent process.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # In bytes, on macOS.


def measure(names: list[str], case: Case) -> dict[str, dict[str, float]]:
    """Candidates -> medians of their seconds, their peak memory in MB, and useful GFLOP/s."""
    processes, seconds = {}, {name: [] for name in names}
    try:
        for name in track(names, "ready", len(names)):  # One at a time: compiling takes all cores.
            processes[name] = start_process(name, case)
            read_line(processes[name], name)
        turns = itertools.product(range(ROUNDS), names)
        for _, name in track(turns, "turn", ROUNDS * len(names)):
            print("go", file=processes[name].stdin, flush=True)
            seconds[name].append(float(read_line(processes[name], name)))
        for process in processes.values():
            process.stdin.close()
        memory = {name: float(read_line(process, name)) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    measured = {}
    for name in names:
        median = statistics.median(seconds[name])
        rate = count_operations(name, case) / median / 1e9
        measured[name] = {"seconds": median, "peak_mb": memory[name], "gigaflops": rate}
    return measured


def start_process(candidate: str, case: Case) -> subprocess.Popen:
    """A candidate -> a process that serves it."""
    sizes = [f"--{field}={value}" for field, value in case._asdict().items() if field != "task"]
    command = [sys.executable, "-m", "benchmark.speed", case.task, *sizes]
    return subprocess.Popen(
        [*command, "--candidate", candidate],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen, candidate: str) -> str:
    """The next line of a candidate's process. Exits with an error if the process has ended."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"error: {candidate} ended; see above. If nothing is there, it ran out of memory.")
    return line.strip()


def count_operations(candidate: str, case: Case) -> int:
    """A candidate -> the useful operations of one step, two per multiply-add."""
    if candidate == PEAK_FLOPS:
        return 2 * 9 * PEAK_SIZE**2 * PEAK_CHANNELS**2 * PEAK_CONVOLUTIONS
    work = useful_multiply_adds(candidate_config(candidate, case), case.crop_size)
    return 2 * case.batch_size * work * (3 if case.task == "training" else 1)


def default_candidates(case: Case) -> list[str]:
    """A case -> the candidates that are measured unless others are requested."""
    for section in SECTIONS.values():
        if case in section.cases:
            return list(section.cases[case])
    of_mobilenet = case.backbone in MOBILENETS
    return list(MOBILENET_CANDIDATES[case.task] if of_mobilenet else CANDIDATES[case.task])


def select_candidates(case: Case, requested: str | None) -> list[str]:
    """Names with ; between, or None for all of the case -> a list. Raises ValueError if unknown."""
    available = CANDIDATES[case.task]
    if requested:
        names = requested.split(";")
        if unknown := [name for name in names if name not in available]:
            raise ValueError(f"No candidate {unknown[0]!r}; there are {'; '.join(available)}.")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{repeated[0]!r} is named twice.")
        return names
    names = default_candidates(case)
    package = "torch" if case.backbone in MOBILENETS else "torchvision"
    if importlib.util.find_spec(package):
        return names
    print(f"{package} is not installed; skipping it: pip install torch torchvision")
    return [name for name in names if available[name].implementation not in OF_PYTORCH]


def processor_name() -> str:
    """The name of this machine's processor, as far as it is known."""
    file = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", file.read_text()) if file.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def measure_cases(cases: Sequence[Case], requested: str | None) -> dict[str, Any]:
    """Measures cases one after another, prints a table of each, and returns all of them."""
    start, done = time.monotonic(), []
    for number, case in enumerate(cases, start=1):
        print(f"\n{case} ({number} of {len(cases)})", flush=True)
        measured = measure([*select_candidates(case, requested), PEAK_FLOPS], case)
        print(table(case_rows(case, measured)), flush=True)
        work = useful_multiply_adds(candidate_config(next(iter(measured)), case), case.crop_size)
        done.append({"case": case._asdict(), "gigamacs": work / 1e9, "measured": measured})
    targets = target_rows({Case(**each["case"]): each["measured"] for each in done})
    if len(targets) > 1:
        print(f"\n{table(targets)}")
    about = {"cores": os.cpu_count(), "cpu": processor_name(), "commit": code_version()}
    about |= {"rounds": ROUNDS, "minutes": (time.monotonic() - start) / 60}
    return {**about, "cases": done}


def measure_sections(names: Sequence[str], output: pathlib.Path | None) -> None:
    """Measures sections and writes them into a new file, or in place of those in results.json."""
    results = {} if output else json.loads(RESULTS.read_text())
    for name in names:
        results[name] = measure_cases(list(SECTIONS[name].cases), None)
        write_json(output or RESULTS, results)


def write_docs() -> None:
    """Writes the tables of results.json into docs/speed.md, between its markers."""
    part = to_markdown(json.loads(RESULTS.read_text()))
    write_text(PAGE, between_markers(PAGE.read_text(), part, MARKERS))
    print(f"-> {PAGE.relative_to(ROOT)}")


def main() -> None:
    arguments = define_command_line().parse_args()
    sizes = [getattr(arguments, field) for field in Case._fields[:-1]]
    batch_size = arguments.batch_size or (4 if arguments.task == "training" else 1)
    case = Case(*sizes, batch_size)
    if arguments.candidate:
        serve(arguments.candidate, case)
        return
    if arguments.task not in CANDIDATES and arguments.candidates:
        sys.exit("error: --candidates needs a single task: training or inference.")
    with errors_in_a_line():
        if case.backbone not in BACKBONES:
            raise ValueError(f"No backbone {case.backbone!r}; there are {', '.join(BACKBONES)}.")
        if arguments.task in CANDIDATES:
            results = measure_cases([case], arguments.candidates)
            if arguments.output:
                write_json(arguments.output, results)
            return
        sections = {"all": list(SECTIONS), "report": []}.get(arguments.task, [arguments.task])
        measure_sections(sections, arguments.output)
        if not arguments.output:
            write_docs()


if __name__ == "__main__":
    main()
